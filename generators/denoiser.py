"""A network of any kind over any process as one object: x_0, score, noise or straight velocity.

    prediction(x, level) = exact prediction of the data's Gaussian + network(x, τ),

so that, as in the flow (``dynamics.gaussian``), means and correlations are right before any
training. Every conversion is exact (``dynamics.parameterisation``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from generators.dynamics.flow import Velocity
from generators.dynamics.parameterisation import Denoiser, Field, Kind, convert, regression_target
from generators.dynamics.schedules import Level, Path, rows_like
from generators.processes import Process, level_at, straight_time, unit_level

# x̂_0 is ε̂ over the signal, and so is the network's error. With less signal than this share, what
# there is to know beyond the data's Gaussian (of the order of the signal) is less than the error.
LEAST_SIGNAL = 0.02


def linear_prediction(linear: Velocity, x: Tensor, level: Level, kind: Kind) -> Tensor:
    """What the data's Gaussian predicts at x (b, n) of unit scale, exactly.

    ``linear``: its velocity on the straight path. Without a branch on values, so that a GPU need
    not be waited for and a compiler sees one graph.
    """
    signal, noise = level.like(x)
    scale = signal + noise
    velocity = linear(x / scale, straight_time(level).to(x))
    if kind == "flow":
        return velocity
    x0, epsilon = (x + noise * velocity) / scale, (x - signal * velocity) / scale
    return regression_target(x0, epsilon, level, kind)


@dataclass(frozen=True)
class Prediction:
    """``rest``: network of ``kind``, less the linear part, at x of unit scale and times τ.

    Outside the levels that the process is trained at the network is asked at the nearest one; for
    ε also below ``LEAST_SIGNAL``. The linear part is exact everywhere.
    """

    rest: Field
    linear: Velocity
    kind: Kind
    process: Process

    def at(self, x: Tensor, level: Level, wanted: Kind) -> Tensor:
        """The prediction of kind ``wanted`` at x (b, n) of unit scale."""
        return linear_prediction(self.linear, x, level, wanted) + self.learned(x, level, wanted)

    def learned(self, x: Tensor, level: Level, wanted: Kind) -> Tensor:
        """What the network adds to the exact part of a prediction of kind ``wanted``."""
        first, last = self.process.span
        if self.kind == "epsilon":
            first = max(first, LEAST_SIGNAL)
        tau = straight_time(level).clamp(first, last).to(x)
        learned = self.rest(x, tau)
        # A conversion is linear in the prediction and x together: at x = 0 it is that of a change.
        return convert(learned, torch.zeros_like(x), level_at(tau), self.kind, wanted)

    def denoiser(self, path: Path | None = None) -> Denoiser:
        """E[x_0 | x] on a path and its times, by default the process's own."""
        followed = path or self.process.path

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            level = followed.level(t)
            scale = torch.hypot(level.signal, level.noise)
            return self.at(x / rows_like(scale, x), unit_level(level), "x0")

        return denoise

    def velocity(self) -> Velocity:
        """dx/dt on the straight path, 0 noise, 1 data: that of a flow with the same marginals."""

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            level = level_at(t)
            return self.at(x / rows_like(torch.hypot(t, 1 - t), x), level, "flow")

        return velocity
