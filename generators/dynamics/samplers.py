"""Deterministic and ancestral samplers, each a free function with a declared order.

Two forms. ``euler``, ``heun`` and ``adaptive`` solve dx/dt = v(x, t) for any velocity and times in
either direction: flow matching (0 noise, 1 data) or a probability flow. ``ddpm``, ``ddim``,
``dpm_solver_pp`` and ``edm`` know a ``Denoiser`` and the path x = α x_0 + σ ε, take times from
noise to data and stay finite at both ends. Tests regress every order on Gaussian data.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from generators.dynamics.flow import Velocity
from generators.dynamics.ode import integrate
from generators.dynamics.parameterisation import Denoiser, posterior
from generators.dynamics.schedules import EDM, Level, Path, Straight, every_row, rows_like
from loop.errors import InvalidInputError

# Of the end point where nothing is drawn; "ddpm" is of the variance, over the noise that is drawn.
ORDER = {
    "euler": 1,
    "heun": 2,
    "adaptive": 5,
    "ddpm": 1,
    "ddim": 1,
    "dpm_solver_pp": 2,
    "edm": 2,
}
LARGEST_CHURN = math.sqrt(2) - 1  # Karras et al. 2022, algorithm 2

Noise = Callable[[Tensor], Tensor]  # standard normal, shaped as its argument


def standard_normal(generator: torch.Generator) -> Noise:
    """Draws in the precision of x, made where the generator lives."""

    def draw(x: Tensor) -> Tensor:
        made = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=generator.device)
        return made.to(x.device)

    return draw


def stream_of(noise: Tensor) -> torch.Generator:
    """A stream of random numbers that is given by the noise (n, ...) itself."""
    first = noise.flatten()[:2].cpu().float().view(torch.int32).tolist()
    return torch.Generator().manual_seed(sum(abs(word) << 31 * i for i, word in enumerate(first)))


# Of a velocity


def uniform_times(steps: int) -> Tensor:
    """(steps + 1,) equal steps from 0 to 1."""
    return torch.linspace(0.0, 1.0, steps + 1)


def euler(velocity: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """Explicit Euler, order 1, one evaluation a step."""
    for t, t_next in itertools.pairwise(times):
        x = x + (t_next - t) * velocity(x, t.expand(len(x)))
    return x


def heun(velocity: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """Heun's method (explicit trapezoid), order 2, two evaluations a step (Karras et al. 2022)."""
    for t, t_next in itertools.pairwise(times):
        h = t_next - t
        v = velocity(x, t.expand(len(x)))
        v_next = velocity(x + h * v, t_next.expand(len(x)))
        x = x + h / 2 * (v + v_next)
    return x


def adaptive(
    velocity: Velocity,
    x: Tensor,
    times: Tensor,
    *,
    tolerance: float = 1e-5,
    longest_step: float = math.inf,
) -> Tensor:
    """Dormand and Prince's pair of order 5 between the first and the last of ``times``.

    Raises InvalidInputError when it gives up, see ``ode.integrate``.
    """
    start, end = float(times[0]), float(times[-1])

    def derivative(t: Tensor, state: Sequence[Tensor]) -> list[Tensor]:
        y = state[0]
        return [velocity(y, t.to(y).expand(len(y)))]

    (end_point,) = integrate(
        derivative, [x], start, end, tolerance=tolerance, longest_step=longest_step
    )
    return end_point


# Of a denoiser


def ddpm(denoise: Denoiser, x: Tensor, path: Path, times: Tensor, *, noise: Noise) -> Tensor:
    """Ancestral sampling: x_s from q(x_s | x_t, x̂_0); the last step, to σ = 0, adds nothing.

    Ho et al. 2020, algorithm 2, with variance σ̃²; on any sub-grid of times.
    """
    for t, (level, after) in _steps(path, times):
        of_x0, of_x, variance = (float(part) for part in posterior(level, after))
        x = of_x0 * denoise(x, every_row(t, x)) + of_x * x
        if variance > 0:
            x = x + math.sqrt(variance) * noise(x)
    return x


def ddim(
    denoise: Denoiser,
    x: Tensor,
    path: Path,
    times: Tensor,
    *,
    eta: float = 0.0,
    noise: Noise | None = None,
) -> Tensor:
    """x_s = α_s x̂_0 + √(σ_s² − κ²) ε̂ + κ z with κ² = η² times the posterior's variance.

    Order 1. η = 0 draws nothing, η = 1 is ``ddpm`` (Song et al. 2021a, equation 12). Raises
    InvalidInputError for η outside [0, 1] or without noise to draw.
    """
    if not 0 <= eta <= 1 or (eta > 0 and noise is None):
        raise InvalidInputError(
            f"eta = {eta:g} {'without' if noise is None else 'with'} noise; expected 0, or up to 1 "
            "with noise=standard_normal(generator)"
        )
    for t, (level, after) in _steps(path, times):
        signal, sigma = float(level.signal), float(level.noise)
        variance = eta**2 * float(posterior(level, after).variance)
        x0 = denoise(x, every_row(t, x))
        kept = math.sqrt(max(float(after.noise) ** 2 - variance, 0.0)) / sigma
        x = (float(after.signal) - kept * signal) * x0 + kept * x
        if variance > 0 and noise is not None:
            x = x + math.sqrt(variance) * noise(x)
    return x


def dpm_solver_pp(denoise: Denoiser, x: Tensor, path: Path, times: Tensor) -> Tensor:
    """DPM-Solver++(2M): linear extrapolation of x̂_0 in λ = log(α/σ). Order 2, one evaluation.

    The first step, and a last one to σ = 0, are of order 1 (Lu et al. 2022b, algorithm 2).
    """
    before, last_h = None, math.inf
    for t, (level, after) in _steps(path, times):
        ratio = float(after.noise / level.noise)
        x0 = denoise(x, every_row(t, x))
        h = float((after.signal / after.noise).log() - (level.signal / level.noise).log())
        d = x0
        if before is not None and math.isfinite(h):
            d = x0 + (h / (2 * last_h)) * (x0 - before)
        x = ratio * x + (float(after.signal) - ratio * float(level.signal)) * d
        before, last_h = x0, h
    return x


def ancestral(velocity: Velocity, noise: Tensor, steps: int) -> Tensor:
    """``ddpm`` on the straight path in equal ``steps``, from the velocity of a flow.

    Fresh noise at every step takes away errors that a solver of the ODE would carry to the end
    (Karras et al. 2022, section 4), among them that samples are too much alike. Which noise is
    given by what it begins with (``stream_of``), so that one noise gives one sample.
    """
    path = Straight()

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return x + rows_like(path.level(t).noise, x) * velocity(x, t)

    drawing = standard_normal(stream_of(noise))
    return ddpm(denoise, noise, path, uniform_times(steps), noise=drawing)


def edm(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    churn: float = 0.0,
    span: tuple[float, float] = (0.0, math.inf),
    inflation: float = 1.0,
    noise: Noise | None = None,
) -> Tensor:
    """Heun's method in σ on x = x_0 + σ ε, a last step to σ = 0 by Euler; order 2.

    ``churn`` S_churn adds noise before the steps whose σ lies in ``span``, ``inflation`` is
    S_noise (Karras et al. 2022, algorithm 2). Raises InvalidInputError for churn without noise and
    for levels that do not fall.
    """
    if churn > 0 and noise is None:
        raise InvalidInputError("churn without noise; pass noise=standard_normal(generator)")
    for sigma, (_, level) in _steps(EDM(), sigmas):
        after = float(level.noise)
        inside = span[0] <= sigma <= span[1]
        gamma = min(churn / (len(sigmas) - 1), LARGEST_CHURN) if inside else 0.0
        raised = sigma * (1 + gamma)
        if gamma > 0 and noise is not None:
            x = x + math.sqrt(raised**2 - sigma**2) * inflation * noise(x)
        d = (x - denoise(x, every_row(raised, x))) / raised
        ahead = x + (after - raised) * d
        if after > 0:
            d_after = (ahead - denoise(ahead, every_row(after, x))) / after
            ahead = x + (after - raised) / 2 * (d + d_after)
        x = ahead
    return x


def _steps(path: Path, times: Tensor) -> Iterator[tuple[float, tuple[Level, Level]]]:
    """Each time with its level and the next one, in float64."""
    t = times.double().cpu()
    levels = path.level(t)
    if len(t) < 2 or not bool((levels.noise.diff() < 0).all()):
        raise InvalidInputError(
            f"{len(t)} times from {float(t[0]):g} to {float(t[-1]):g}; expected at least 2 whose "
            "noise falls at every step, from noise to data"
        )
    pairs = itertools.pairwise(Level(*pair) for pair in zip(*levels, strict=True))
    return zip(t[:-1].tolist(), pairs, strict=True)
