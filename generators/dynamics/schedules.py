"""How much signal and how much noise a state has: x_t = α(t) x_0 + σ(t) ε with standard normal ε.

Every process here is such a pair. Discrete diffusion (``Discrete``) has times 0..T with 0 = data,
the stochastic differential equations dx = f(t) x dt + g(t) dw have 0 = data, and the straight path
of flow matching has 0 = noise, 1 = data. A sampler or a conversion sees only ``level(t)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from loop.errors import InvalidInputError

COSINE_OFFSET = 0.008
MOST_BETA = 0.999  # keeps ᾱ_T above 0: at exactly 0 the noise says nothing of the data


def rows_like(values: Tensor, x: Tensor) -> Tensor:
    """(b,) or scalar values as (b, 1, ..., 1) for x (b, ...), in its precision, on its device."""
    return values.to(x.device, x.dtype).reshape(-1, *([1] * (x.ndim - 1)))


def every_row(t: float, x: Tensor) -> Tensor:
    """(b,) the same time for each row of x (b, ...)."""
    return torch.full((len(x),), t, dtype=x.dtype, device=x.device)


class Level(NamedTuple):
    """Coefficients of x = signal · x_0 + noise · ε, each (b,) or a scalar tensor."""

    signal: Tensor
    noise: Tensor

    def like(self, x: Tensor) -> Level:
        """Both as (b, 1, ..., 1) for x (b, ...), in its precision and on its device."""
        return Level(*(rows_like(part, x) for part in self))

    @property
    def snr(self) -> Tensor:
        """Signal-to-noise ratio α²/σ², infinite without noise."""
        return (self.signal / self.noise).square()


class Path(Protocol):
    """A noising process, known by its levels."""

    def level(self, t: Tensor) -> Level:
        """Signal and noise at times (b,)."""
        ...


class SDE(Path, Protocol):
    """dx = f(t) x dt + g(t) dw from data at t = 0 to noise (Song et al. 2021)."""

    def drift(self, t: Tensor) -> Tensor:
        """f(t), shaped as t."""
        ...

    def diffusion(self, t: Tensor) -> Tensor:
        """g(t), shaped as t."""
        ...


# Discrete time


@dataclass(frozen=True, eq=False)
class Discrete:
    """ᾱ_t for t = 0..T, (T + 1,) float64, ᾱ_0 = 1, falling and above 0 (Ho et al. 2020).

    Raises InvalidInputError for anything else.
    """

    alpha_bar: Tensor

    def __post_init__(self) -> None:
        a = self.alpha_bar
        if a.ndim != 1 or len(a) < 2 or a.dtype != torch.float64 or float(a[0]) != 1.0:
            raise InvalidInputError(
                f"alpha_bar has shape {tuple(a.shape)}, type {a.dtype}; expected (T + 1,) float64 "
                "that begins with 1"
            )
        if not bool((a[1:] < a[:-1]).all()) or not float(a[-1]) > 0:
            raise InvalidInputError(
                f"alpha_bar ends at {float(a[-1]):g} or does not fall; expected strictly falling "
                "values above 0, clip the betas below 1"
            )

    @staticmethod
    def of_betas(betas: Tensor) -> Discrete:
        """From β_1..β_T (T,), each in (0, 1)."""
        steps = torch.cat([torch.ones(1, dtype=torch.float64), 1 - betas.double()])
        return Discrete(steps.cumprod(0))

    @property
    def steps(self) -> int:
        """T."""
        return len(self.alpha_bar) - 1

    @property
    def betas(self) -> Tensor:
        """β_1..β_T, (T,)."""
        return 1 - self.alpha_bar[1:] / self.alpha_bar[:-1]

    def level(self, t: Tensor) -> Level:
        """√ᾱ_t and √(1 − ᾱ_t) at whole times (b,) from 0 to T.

        Raises InvalidInputError for other times.
        """
        index = t.long()
        if bool(((index != t) | (index < 0) | (index > self.steps)).any()):
            raise InvalidInputError(
                f"times from {float(t.min()):g} to {float(t.max()):g}; expected whole numbers from "
                f"0 (data) to {self.steps} (noise)"
            )
        a = self.alpha_bar.to(t.device)[index]
        return Level(a.sqrt(), (1 - a).sqrt())

    def times(self, steps: int | None = None) -> Tensor:
        """(steps + 1,) times from T to 0, evenly spread; without ``steps`` every one."""
        steps = self.steps if steps is None else steps
        if not 1 <= steps <= self.steps:
            raise InvalidInputError(f"{steps} steps; expected 1 to {self.steps}, one a time")
        return torch.linspace(self.steps, 0, steps + 1, dtype=torch.float64).round()


def linear(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Discrete:
    """β rises linearly from ``first`` to ``last`` (Ho et al. 2020, section 4)."""
    return Discrete.of_betas(torch.linspace(first, last, steps, dtype=torch.float64))


def cosine(steps: int = 1000, offset: float = COSINE_OFFSET, most: float = MOST_BETA) -> Discrete:
    """ᾱ_t = cos²((t/T + o)/(1 + o) π/2), normed to 1 at t = 0, β at most ``most``.

    Nichol & Dhariwal 2021, equation 17. Taken literally it ends at ᾱ_T = 0, β_T = 1.
    """
    u = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    f = torch.cos((u + offset) / (1 + offset) * math.pi / 2).square()
    return Discrete.of_betas((1 - f[1:] / f[:-1]).clamp(max=most))


def sigmoid(
    steps: int = 1000,
    *,
    start: float = -3.0,
    end: float = 3.0,
    temperature: float = 1.0,
    most: float = MOST_BETA,
) -> Discrete:
    """ᾱ_t falls as a sigmoid between ``start`` and ``end``, normed to 1 and 0 there, β clipped.

    Jabri et al. 2023 (arXiv:2212.11972); Chen 2023 (arXiv:2301.10972), algorithm 1.
    """
    u = torch.linspace(start, end, steps + 1, dtype=torch.float64) / temperature
    f = (torch.sigmoid(u[-1]) - torch.sigmoid(u)) / (torch.sigmoid(u[-1]) - torch.sigmoid(u[0]))
    return Discrete.of_betas((1 - f[1:] / f[:-1]).clamp(max=most))


# Continuous time


@dataclass(frozen=True)
class VP:
    """Variance preserving, β(t) from ``first`` to ``last`` over t in [0, 1]; ᾱ = exp(−∫β).

    f = −β/2, g = √β (Song et al. 2021, equation 11; appendix C).
    """

    first: float = 0.1
    last: float = 20.0

    def beta(self, t: Tensor) -> Tensor:
        return self.first + t * (self.last - self.first)

    def integral(self, t: Tensor) -> Tensor:
        """∫ β from 0 to t."""
        return self.first * t + 0.5 * (self.last - self.first) * t.square()

    def level(self, t: Tensor) -> Level:
        b = self.integral(t)
        return Level((-0.5 * b).exp(), (-torch.expm1(-b)).sqrt())

    def drift(self, t: Tensor) -> Tensor:
        return -0.5 * self.beta(t)

    def diffusion(self, t: Tensor) -> Tensor:
        return self.beta(t).sqrt()


@dataclass(frozen=True)
class SubVP(VP):
    """Sub-VP: the mean of VP with σ = 1 − ᾱ, its noise variance the square of VP's.

    g = √(β (1 − exp(−2 ∫β))) (Song et al. 2021, equation 12; appendix C).
    """

    def level(self, t: Tensor) -> Level:
        b = self.integral(t)
        return Level((-0.5 * b).exp(), -torch.expm1(-b))

    def diffusion(self, t: Tensor) -> Tensor:
        return (self.beta(t) * -torch.expm1(-2 * self.integral(t))).sqrt()


@dataclass(frozen=True)
class VE:
    """Variance exploding: α = 1, σ(t) = least (most/least)^t over t in [0, 1].

    f = 0, g = σ √(2 log(most/least)) (Song et al. 2021, appendix C). At t = 0 there is noise of
    ``least`` left, which should be below what matters in the data.
    """

    least: float = 0.01
    most: float = 50.0

    def level(self, t: Tensor) -> Level:
        return Level(torch.ones_like(t), self.least * (self.most / self.least) ** t)

    def drift(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def diffusion(self, t: Tensor) -> Tensor:
        return self.level(t).noise * math.sqrt(2 * math.log(self.most / self.least))


@dataclass(frozen=True)
class EDM:
    """α = 1 and time is the noise: σ(t) = t, f = 0, g = √(2 t) (Karras et al. 2022, table 1)."""

    def level(self, t: Tensor) -> Level:
        return Level(torch.ones_like(t), t)

    def drift(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def diffusion(self, t: Tensor) -> Tensor:
        return (2 * t).sqrt()


@dataclass(frozen=True)
class Straight:
    """The path of flow matching: α = t, σ = 1 − t, t = 0 noise, t = 1 data (Lipman et al. 2023)."""

    def level(self, t: Tensor) -> Level:
        return Level(t, 1 - t)


def rho_sigmas(
    steps: int, least: float = 0.002, most: float = 80.0, rho: float = 7.0, *, zero: bool = False
) -> Tensor:
    """(steps + 1,) noise levels from ``most`` to ``least``, float64, equal steps in σ^(1/ρ).

    With ``zero`` the last is 0 and the others are the grid (Karras et al. 2022, equation 5).
    Raises InvalidInputError unless 0 < least < most and steps >= 1, with ``zero`` >= 2.
    """
    if not 0 < least < most or steps < 1 + zero:
        raise InvalidInputError(
            f"{steps} steps from {most:g} to {least:g}; expected at least {1 + zero} and "
            "0 < least < most"
        )
    points = steps + (not zero)
    grid = torch.linspace(most ** (1 / rho), least ** (1 / rho), points, dtype=torch.float64) ** rho
    return torch.cat([grid, grid.new_zeros(1)]) if zero else grid
