"""Gaussian data: every denoiser, flow and law in closed form, by conditioning of Gaussians."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from generators.dynamics.samplers import Noise
from generators.dynamics.schedules import Path

DOUBLE = torch.float64


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=DOUBLE)


class Gaussian:
    """Data N(m, S), m (d,), S (d, d); every row of a batch has one time."""

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        self.mean, self.covariance = mean, covariance

    def marginal(self, path: Path, t: float) -> tuple[Tensor, Tensor]:
        """Mean and covariance of x_t = α x_0 + σ ε."""
        a, s = (float(part) for part in path.level(torch.tensor(t, dtype=DOUBLE)))
        return a * self.mean, a**2 * self.covariance + s**2 * torch.eye(len(self.mean)).double()

    def denoiser(self, path: Path) -> Callable[[Tensor, Tensor], Tensor]:
        """E[x_0 | x_t] = m + α S C⁻¹ (x_t − α m), C the covariance of x_t."""

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            assert bool((t == t[0]).all())
            centre, c = self.marginal(path, float(t[0]))
            a = float(path.level(t[:1].double()).signal)
            return self.mean + a * torch.linalg.solve(c, (x.double() - centre).T).T @ (
                self.covariance
            )

        return denoise

    def score(self, path: Path) -> Callable[[Tensor, Tensor], Tensor]:
        """−C⁻¹ (x_t − α m)."""

        def score(x: Tensor, t: Tensor) -> Tensor:
            centre, c = self.marginal(path, float(t[0]))
            return -torch.linalg.solve(c, (x - centre).T).T

        return score

    def carried(self, path: Path, x: Tensor, start: float, end: float) -> Tensor:
        """Where the probability flow takes x (b, d): the covariances commute, so by their roots."""
        values, axes = torch.linalg.eigh(self.covariance)
        a, s = path.level(numbers(start, end))
        root = (a[:, None] ** 2 * values + s[:, None] ** 2).sqrt()
        along = (x - a[0] * self.mean) @ axes
        return a[1] * self.mean + along * (root[1] / root[0]) @ axes.T


def scalar(mean: float, variance: float) -> Gaussian:
    return Gaussian(numbers(mean), numbers(variance)[:, None])


class _Impulses:
    """The i-th draw is 1 in row i + 2 and 0 elsewhere."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, x: Tensor) -> Tensor:
        z = torch.zeros_like(x)
        z[self.made + 2] = 1
        self.made += 1
        return z


def law(
    run: Callable[[Tensor, Noise], Tensor], draws: int, mean: float, variance: float
) -> tuple[float, float]:
    """Exact mean and variance of what an affine sampler makes of N(mean, variance), without luck.

    On Gaussian data a sampler's end is affine in its start and in each of its ``draws``: row 0
    starts at 0, row 1 at 1, each further row sees one unit draw.
    """
    start = torch.zeros(draws + 2, 1, dtype=DOUBLE)
    start[1] = 1
    impulses = _Impulses()
    end = run(start, impulses)[:, 0]
    assert impulses.made == draws
    slopes = end[1:] - end[0]
    return (
        float(end[0] + slopes[0] * mean),
        float(slopes[0] ** 2 * variance + slopes[1:].square().sum()),
    )


def drawing(sampler: Callable[..., Tensor], *settings: Any) -> Callable[[Tensor, Noise], Tensor]:
    """A sampler with all but its start and its noise given, as ``law`` asks for it."""
    return lambda x, z: sampler(x, *settings, noise=z)


def order(errors: list[float], steps: list[int]) -> float:
    """Minus the slope of log error over log steps."""
    return float(-np.polyfit(np.log(steps), np.log(errors), 1)[0])
