"""Samplers that follow the score with noise: reverse SDE, predictor–corrector, Langevin.

Each takes the score ∇ log p_t(x) as (b, ...), (b,) -> (b, ...), see ``parameterisation.field_of``,
and has a declared weak order: of the variance on Gaussian data, which tests regress.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from generators.dynamics.parameterisation import Field
from generators.dynamics.samplers import Noise
from generators.dynamics.schedules import SDE, every_row
from loop.errors import InvalidInputError

# "langevin" in the step size, the others in the number of times.
WEAK_ORDER = {"euler_maruyama": 1, "predictor_corrector": 1, "langevin": 1}


def euler_maruyama(score: Field, x: Tensor, sde: SDE, times: Tensor, *, noise: Noise) -> Tensor:
    """dx = (f x − g² score) dt + g dw̄ from the first of ``times`` down to the last.

    Weak order 1 (Anderson 1982; Song et al. 2021, equation 6).
    """
    for t, after in itertools.pairwise(_falling(times)):
        x = _reverse_step(score, x, sde, t, after, noise)
    return x


def predictor_corrector(
    score: Field,
    x: Tensor,
    sde: SDE,
    times: Tensor,
    *,
    noise: Noise,
    corrections: int = 1,
    ratio: float = 0.16,
) -> Tensor:
    """A step of the reverse SDE, then ``corrections`` Langevin steps at the new level.

    Song et al. 2021, algorithm 1. Their step 2 (r ‖z‖/‖score‖)² has ‖z‖/‖score‖ replaced by the
    σ that it estimates: no sample then depends on those beside it.
    """
    for t, after in itertools.pairwise(_falling(times)):
        x = _reverse_step(score, x, sde, t, after, noise)
        sigma = float(sde.level(torch.tensor(after, dtype=torch.float64)).noise)
        x = langevin(score, x, after, 2 * (ratio * sigma) ** 2, corrections, noise=noise)
    return x


def langevin(
    score: Field, x: Tensor, t: float, step: float, repeats: int, *, noise: Noise
) -> Tensor:
    """x + η score(x, t) + √(2η) z, ``repeats`` times: unadjusted Langevin dynamics.

    On N(0, s²) its stationary variance is s²/(1 − η/(2 s²)) (Roberts & Tweedie 1996).
    """
    for _ in range(repeats):
        x = x + step * score(x, every_row(t, x)) + math.sqrt(2 * step) * noise(x)
    return x


def annealed_langevin(
    score: Field, x: Tensor, sigmas: Tensor, *, step: float, repeats: int, noise: Noise
) -> Tensor:
    """Langevin dynamics at each σ of a falling grid, its step η = ``step`` (σ/σ_last)².

    Song & Ermon 2019, algorithm 1, where ε = 2 ``step``. The score is given σ as its time.
    """
    grid = _falling(sigmas)
    for sigma in grid:
        x = langevin(score, x, sigma, step * (sigma / grid[-1]) ** 2, repeats, noise=noise)
    return x


def _reverse_step(
    score: Field, x: Tensor, sde: SDE, t: float, after: float, noise: Noise
) -> Tensor:
    time = torch.tensor(t, dtype=torch.float64)
    f, g = float(sde.drift(time)), float(sde.diffusion(time))
    back = f * x - g**2 * score(x, every_row(t, x))
    return x + (after - t) * back + g * math.sqrt(t - after) * noise(x)


def _falling(times: Tensor) -> list[float]:
    grid = [float(t) for t in times]
    if len(grid) < 2 or any(after >= t for t, after in itertools.pairwise(grid)):
        raise InvalidInputError(
            f"{len(grid)} times that do not fall; expected at least 2 from noise to data"
        )
    return grid
