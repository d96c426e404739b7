"""Noising processes by name, each seen two ways: on its own path, and by its signal-to-noise ratio.

Kingma et al. 2021 (Variational diffusion models, section 5.1): up to a rescaling of the state, a
process is its signal-to-noise ratio over time. Networks here see states of unit scale,
x = α x_0 + σ ε with α² + σ² = 1, and the time τ = α/(α + σ) of the straight path with the same
ratio. Of EDM that is Karras et al.'s preconditioning for data of unit variance (2022, table 1):
their F is -v here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from generators.dynamics.schedules import (
    EDM,
    SDE,
    VE,
    VP,
    Discrete,
    Level,
    Path,
    SubVP,
    cosine,
    linear,
    rho_sigmas,
    sigmoid,
)
from loop.errors import InvalidInputError, unknown_name

LEAST_TIME = 1e-3  # of the SDEs: below it nothing but noise of the data is left to remove
# Karras et al. 2022, table 1, put their log-normal at exp(-1.2) for data of deviation 0.5.
EDM_MEAN, EDM_SPREAD = -1.2 + math.log(2), 1.2
EDM_LEAST, EDM_MOST = 0.002, 80.0

PATHS: Mapping[str, Path] = {
    "linear": linear(),
    "cosine": cosine(),
    "sigmoid": sigmoid(),
    "vp": VP(),
    "subvp": SubVP(),
    "ve": VE(),
    "edm": EDM(),
}
DIFFERENTIAL = tuple(k for k, path in PATHS.items() if not isinstance(path, Discrete))


def unit_level(level: Level) -> Level:
    """The same ratio of signal to noise with α² + σ² = 1."""
    scale = torch.hypot(level.signal, level.noise)
    return Level(level.signal / scale, level.noise / scale)


def straight_time(level: Level) -> Tensor:
    """τ = α/(α + σ): when the straight path has this ratio; 0 noise, 1 data."""
    return level.signal / (level.signal + level.noise)


def level_at(tau: Tensor) -> Level:
    """The level of unit scale at times (b,) of the straight path."""
    return unit_level(Level(tau, 1 - tau))


@dataclass(frozen=True)
class Process:
    """A noising process by its name in ``PATHS``; raises InvalidInputError for another."""

    name: str

    def __post_init__(self) -> None:
        if self.name not in PATHS:
            raise InvalidInputError(unknown_name("process", self.name, PATHS))

    @property
    def path(self) -> Path:
        return PATHS[self.name]

    @property
    def sde(self) -> SDE:
        """Its stochastic differential equation; raises InvalidInputError for discrete ones."""
        path = self.path
        if isinstance(path, (VP, VE, EDM)):
            return path
        raise InvalidInputError(
            f"process {self.name} has steps and no stochastic differential equation; expected "
            + " or ".join(DIFFERENTIAL)
        )

    def draw(self, n: int, generator: torch.Generator) -> Level:
        """Levels (n,) float32 of unit scale to train at, as the process's own papers draw them.

        Uniform in time; for EDM log-normal in σ.
        """
        signal, noise = unit_level(self.path.level(self._times(n, generator)))
        return Level(signal.float(), noise.float())

    def _times(self, n: int, generator: torch.Generator) -> Tensor:
        if isinstance(self.path, Discrete):
            return torch.randint(1, self.path.steps + 1, (n,), generator=generator)
        if isinstance(self.path, EDM):
            normal = torch.randn(n, generator=generator)
            return (EDM_MEAN + EDM_SPREAD * normal).exp().clamp(EDM_LEAST, EDM_MOST)
        return LEAST_TIME + (1 - LEAST_TIME) * torch.rand(n, generator=generator)

    def times(self, steps: int) -> Tensor:
        """(steps + 1,) times of the path from noise to data, float64; the last has no noise.

        (VE has its least noise left.) Raises InvalidInputError for more steps than a discrete
        process has, and fewer than 2 for EDM.
        """
        if isinstance(self.path, Discrete):
            return self.path.times(steps)
        if isinstance(self.path, EDM):
            return rho_sigmas(steps, EDM_LEAST, EDM_MOST, zero=True)
        return torch.linspace(1, 0, steps + 1, dtype=torch.float64)

    def noisy_times(self, steps: int) -> Tensor:
        """(steps + 1,) times that end where a little noise is left: a score is finite there."""
        if isinstance(self.path, EDM):
            return rho_sigmas(steps, EDM_LEAST, EDM_MOST)
        return torch.linspace(1, LEAST_TIME, steps + 1, dtype=torch.float64)

    @property
    def noisiest(self) -> Level:
        """Signal and noise on the path where sampling begins, float64 scalars."""
        return self._level_at_end(noisy=True)

    def _level_at_end(self, *, noisy: bool) -> Level:
        if isinstance(self.path, Discrete):
            t = float(self.path.steps) if noisy else 1.0
        elif isinstance(self.path, EDM):
            t = EDM_MOST if noisy else EDM_LEAST
        else:
            t = 1.0 if noisy else LEAST_TIME
        return self.path.level(torch.tensor(t, dtype=torch.float64))

    @property
    def span(self) -> tuple[float, float]:
        """The times τ of the straight path between which it is trained, noise first."""
        first, last = (self._level_at_end(noisy=noisy) for noisy in (True, False))
        return float(straight_time(first)), float(straight_time(last))
