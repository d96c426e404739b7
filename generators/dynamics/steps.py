"""Long steps of a flow dx/dt = linear + n whose linear part is exact: what few-step students take.

A ``Step`` knows what a rate n that stays constant from t to s does. ``PlainStep`` has no linear
part; ``GaussianStep`` has that of Gaussian data (``GaussianVelocity``). There, in the eigenbasis,

    x_s = s m + (σ_s/σ_t) (x_t − t m) + σ_s ∫ n/σ_τ dτ,   σ_t² = t² λ + (1 − t)²,

and the integrals of 1/σ and τ/σ are elementary: an exponential integrator (Hochbruck & Ostermann
2010, section 2; for diffusion models Zhang & Chen 2023). With n = 0 a step of any length is exact.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from generators.dynamics.flow import Velocity
from generators.dynamics.gaussian import GaussianVelocity


class Step(Protocol):
    """From states x (b, d) at times t (b,) to times s (b,)."""

    def __call__(
        self, x: Tensor, t: Tensor, s: Tensor, rate: Tensor, rise: Tensor | None = None
    ) -> Tensor:
        """The end (b, d) when n is ``rate``, or goes linearly from there to ``rate + rise``."""
        ...

    def rate(self, x: Tensor, t: Tensor, s: Tensor, end: Tensor) -> Tensor:
        """The constant n (b, d) that leads from x to ``end``; s must differ from t."""
        ...


@dataclass(frozen=True)
class PlainStep:
    """dx/dt = n: a constant rate is Euler's step, a linear one Heun's."""

    def __call__(
        self, x: Tensor, t: Tensor, s: Tensor, rate: Tensor, rise: Tensor | None = None
    ) -> Tensor:
        return x + (s - t)[:, None] * (rate if rise is None else rate + rise / 2)

    def rate(self, x: Tensor, t: Tensor, s: Tensor, end: Tensor) -> Tensor:
        return (end - x) / (s - t)[:, None]


@dataclass(frozen=True)
class GaussianStep:
    """dx/dt = linear(x, t) + n with the velocity of Gaussian data."""

    linear: GaussianVelocity

    def __call__(
        self, x: Tensor, t: Tensor, s: Tensor, rate: Tensor, rise: Tensor | None = None
    ) -> Tensor:
        end = self.carried(x, t, s) + self._along(rate, lambda v: _weights(v, t, s)[0])
        return end if rise is None else end + self._along(rise, lambda v: _weights(v, t, s)[1])

    def rate(self, x: Tensor, t: Tensor, s: Tensor, end: Tensor) -> Tensor:
        rest = end - self.carried(x, t, s)
        return self._along(rest, lambda v: 1 / _weights(v, t, s)[0])

    def carried(self, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Where the linear part alone takes x: the map between two laws of Gaussian data."""
        mean = self.linear.mean
        moved = self._along(x - t[:, None] * mean, lambda v: _width(v, s) / _width(v, t))
        return s[:, None] * mean + moved

    def _along(self, x: Tensor, factor: Callable[[Tensor], Tensor]) -> Tensor:
        """x (b, d) times a function of each direction's variance, (r,) -> (b, r)."""
        axes = self.linear.axes
        rest = factor(self.linear.rest.double()).to(x.dtype)
        own = factor(self.linear.variance.double()).to(x.dtype)
        return rest * x + ((own - rest) * (x @ axes)) @ axes.T


def _width(variance: Tensor, t: Tensor) -> Tensor:
    """σ_t, (b, r), of variances (r,) at times (b,)."""
    t = t.double()[:, None]
    return (t.square() * variance + (1 - t).square()).sqrt()


def _weights(variance: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """σ_s ∫ dτ/σ_τ and σ_s ∫ (τ − t)/(s − t) dτ/σ_τ from t to s, (b, r) each; 0 where s = t.

    With a = 1 + λ: ∫ dτ/σ_τ = asinh((a τ − 1)/√λ)/√a, and dσ/dτ = (a τ − 1)/σ gives the other.
    """
    a, root = 1 + variance, variance.sqrt()
    begin, end = t.double()[:, None], s.double()[:, None]
    start_width, width = _width(variance, t), _width(variance, s)
    plain = (((a * end - 1) / root).asinh() - ((a * begin - 1) / root).asinh()) / a.sqrt()
    rising = (width - start_width + plain) / a - begin * plain
    span = end - begin
    share = torch.where(span != 0, rising / torch.where(span != 0, span, 1.0), 0.0)
    return width * plain, width * share


def steps_between(step: Step, rate: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """States (b, len(times), d) of x (b, d) along ``times`` (g,), each step by Heun's method.

    n is taken as linear over a step, from x to where n as it is there leads. Order 2, two
    evaluations a step; the linear part is exact at any step.
    """
    states = [x]
    for begin, end in itertools.pairwise(times):
        t, s = begin.expand(len(x)), end.expand(len(x))
        n = rate(x, t)
        ahead = step(x, t, s, n)
        x = step(x, t, s, n, rate(ahead, s) - n)
        states.append(x)
    return torch.stack(states, dim=1)
