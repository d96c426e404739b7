"""Ancestral steps that know how far off their denoiser is: right variances in few steps.

Of a step from x_t to x_s, with 0 noise, 1 data and t < s, DDPM draws q(x_s | x_t, x̂_1) as if x̂_1
were x_1. In short steps that makes no difference; in long ones the variance of x_1 given x_t is
missing. Among Gaussian steps the one nearest to the true one has, c being the share of x_1 in the
mean of q and σ̃² its variance (Bao et al. 2022, Analytic-DPM, theorem 1; 2022b for covariances),

    Cov(x_s | x_t) = σ̃² I + c² E[(x_1 − x̂_1)(x_1 − x̂_1)ᵀ].

The expectation is measured on data along the principal axes of these, where for a Gaussian it is
diagonal, so that after any number of steps a Gaussian's covariance is exact. As with DDPM the last
step draws nothing: it ends at x̂_1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from generators.dynamics.flow import Velocity, interpolate
from generators.dynamics.gaussian import GaussianVelocity
from generators.dynamics.parameterisation import posterior
from generators.dynamics.samplers import stream_of, uniform_times
from generators.dynamics.schedules import Straight, every_row, rows_like
from loop.errors import InvalidInputError

TIMES = 12  # equal steps at whose beginnings errors are measured
AT_ONCE = 256  # rows that go through the network together


def posterior_variance(variance: Tensor, t: float) -> Tensor:
    """Var(x_1 | x_t) along axes where a Gaussian has ``variance`` (r,); on the straight path."""
    noise = (1 - t) ** 2
    return variance * noise / (t * t * variance + noise)


@dataclass(frozen=True)
class Residual:
    """Mean squared error of x̂_1 along the axes of ``linear``, over that of the data's Gaussian.

    ``along`` (k, r) at k equal steps from 0 on, ``rest`` (k,) of what is not along the axes.
    """

    along: Tensor
    rest: Tensor

    @staticmethod
    @torch.no_grad()
    def of(
        velocity: Velocity,
        linear: GaussianVelocity,
        data: Tensor,
        generator: torch.Generator,
        steps: int = TIMES,
    ) -> Residual:
        """Measured on states (n, d), noised anew at each of the times.

        Raises InvalidInputError without any states.
        """
        if not len(data):
            raise InvalidInputError("no states were given; an error is measured on at least one")
        d, r = linear.axes.shape
        along, rest = [], []
        for t in uniform_times(steps)[:-1].tolist():
            squares, others = data.new_zeros(r), data.new_zeros(())
            for rows in data.split(AT_ONCE):
                noise = torch.randn(rows.shape, generator=generator, dtype=rows.dtype)
                at = every_row(t, rows)
                x = interpolate(rows, noise.to(rows.device), at)
                error = rows - x - (1 - t) * velocity(x, at)
                parts = error @ linear.axes
                squares += parts.square().sum(0)
                others += error.square().sum() - parts.square().sum()
            along.append(squares / len(data) / posterior_variance(linear.variance, t))
            of_rest = posterior_variance(linear.rest, t).sum() * max(d - r, 1) * len(data)
            rest.append(others / of_rest)
        return Residual(torch.stack(along), torch.stack(rest))

    def to(self, device: str) -> Residual:
        """The same on another device."""
        return Residual(self.along.to(device), self.rest.to(device))

    def variance(self, linear: GaussianVelocity, t: float) -> tuple[Tensor, Tensor]:
        """E(x_1 − x̂_1)² at time t: along the axes (r,), and along any other direction (1,).

        The ratio to the Gaussian's goes linearly from one time to the next.
        """
        place = min(t * len(self.along), len(self.along) - 1.0)
        first = min(int(place), len(self.along) - 2) if len(self.along) > 1 else 0
        last = min(first + 1, len(self.along) - 1)
        along, rest = (
            torch.lerp(part[first], part[last], place - first) for part in (self.along, self.rest)
        )
        return (
            along * posterior_variance(linear.variance, t),
            rest * posterior_variance(linear.rest, t),
        )


@torch.no_grad()
def transitions(
    velocity: Velocity, noise: Tensor, steps: int, linear: GaussianVelocity, residual: Residual
) -> Tensor:
    """States (n, d) that the noise (n, d) becomes in equal ``steps`` of the best covariance.

    One noise gives one sample, as with ``samplers.ancestral``.
    """
    path, source = Straight(), stream_of(noise)
    times = uniform_times(steps)
    x = noise
    for t, after in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
        before, next_ = (path.level(torch.tensor(at, dtype=torch.float64)) for at in (t, after))
        of_x1, of_x, variance = (float(part) for part in posterior(before, next_))
        at = every_row(t, x)
        clean = x + rows_like(1 - at, x) * velocity(x, at)
        x = of_x1 * clean + of_x * x
        if variance <= 0:
            continue
        drawn = torch.randn(x.shape, generator=source, dtype=x.dtype).to(x.device)
        along, rest = residual.variance(linear, t)
        every = (variance + of_x1**2 * rest).sqrt()
        more = (variance + of_x1**2 * along).sqrt() - every
        x = x + every * drawn + ((drawn @ linear.axes) * more) @ linear.axes.T
    return x
