"""``spinodal verify generators``: samplers that draw, both ends of DDIM, a diffusion's bound.

On Gaussian data, as ``verification_dynamics``: exact laws, nothing is estimated from samples. And
the map between two laws of phase fractions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from generators.dynamics.elbo import Diffusion, elbo, gaussian_decoder
from generators.dynamics.samplers import ORDER, Noise, ddim, ddpm
from generators.dynamics.schedules import EDM, VP, linear, rho_sigmas
from generators.dynamics.stochastic import WEAK_ORDER, langevin, predictor_corrector
from generators.phase_law import KNOTS, PRIOR, PhaseLaw
from generators.verification_dynamics import (
    DOUBLE,
    ROOM,
    S2,
    M,
    column,
    drawing,
    gaussian_denoiser,
    gaussian_score,
    law,
    numbers,
    order_case,
)
from loop.verification import Case, absolute_case

LAYERS = 20  # of the diffusion whose bound is computed


def cases() -> list[Case]:
    """Every case, computed now on the CPU in float64; within a second."""
    return [*_orders(), *_eta(), _bound(), _phase_law()]


def _orders() -> Iterator[Case]:
    """Of the variance: that of the exact marginal at the last time, or the stationary one."""
    path, errors = EDM(), []
    for n in (64, 256):
        times = rho_sigmas(n)
        start, end = (float(t) ** 2 + S2 for t in (times[0], times[-1]))
        sampler = drawing(partial(ddpm, gaussian_denoiser(path)), path, times)
        errors.append(abs(law(sampler, n, M, start)[1] - end))
    yield order_case("ddpm", ORDER["ddpm"], errors, 4)
    sde, errors = VP(1.0, 1.0), []
    for n in (64, 256):
        times = torch.linspace(5.0, 1e-3, n + 1, dtype=DOUBLE)
        levels = sde.level(times)
        means, variances = levels.signal * M, levels.signal**2 * S2 + levels.noise**2
        # At a fixed ratio the corrector's own bias would be what remains.
        corrected = partial(predictor_corrector, ratio=0.16 * math.sqrt(64 / n))
        sampler = drawing(partial(corrected, gaussian_score(sde)), sde, times)
        _, found = law(sampler, 2 * n, float(means[0]), float(variances[0]))
        errors.append(abs(found - float(variances[-1])))
    name = "predictor_corrector"
    yield order_case(name, WEAK_ORDER[name], errors, 4)
    errors = [abs(_stationary(step) - 0.5) for step in (0.1, 0.025)]
    yield order_case("langevin", WEAK_ORDER["langevin"], errors, 4)


def _stationary(step: float) -> float:
    """Variance of unadjusted Langevin dynamics on N(0, ½), long after its start there."""
    repeats = round(12 / step)

    def run(x: Tensor, noise: Noise) -> Tensor:
        return langevin(lambda y, _: -2 * y, x, 0.0, step, repeats, noise=noise)

    return law(run, repeats, 0.0, 0.5)[1]


def _eta() -> Iterator[Case]:
    """η = 1 is the ancestral sampler, on any sub-grid; η = 0 draws nothing."""
    schedule, source = linear(), "Song, Meng & Ermon 2021, section 4.1"
    denoise, times = gaussian_denoiser(schedule), schedule.times(40)
    exact = law(drawing(partial(ddpm, denoise), schedule, times), 39, 0.0, 1.0)
    found = law(drawing(partial(ddim, denoise, eta=1.0), schedule, times), 39, 0.0, 1.0)
    for name, wanted, made in zip(("mean", "variance"), exact, found, strict=True):
        what = f"{name} by DDIM with eta = 1, as by DDPM"
        yield absolute_case(ROOM, what, wanted, made, 1e-9, source)
    x = column(-1.2, 0.1, 0.9)
    first, again = (ddim(denoise, x, schedule, times, eta=0.0) for _ in range(2))
    worst = float((first - again).abs().max())
    yield absolute_case(ROOM, "DDIM with eta = 0, twice", 0.0, worst, 0.0, source)


def _bound() -> Case:
    """E_x of the negative bound of data N(m, s²) with the best denoiser, in bits a dimension.

    L_N = ½ (α² (m² + s²) − α² − ln σ²) at the noisiest, a layer from t to s is
    ½ (SNR_s − SNR_t) Var(x_0|x_t), L_0 = ½ ln(2πe Var(x_0|x_1)). The bound is quadratic in the
    data and in each draw, so its mean over points ±√d along d axes is exact.
    """
    path = linear()
    times = path.times(LAYERS)[:-1]
    signal, noise = (part.square() for part in path.level(times))
    left = S2 * noise / (signal * S2 + noise)
    ratio = signal / noise
    prior = 0.5 * (signal[0] * (M**2 + S2) - signal[0] - noise[0].log())
    layers = 0.5 * (ratio.diff() * left[:-1]).sum()
    last = 0.5 * (2 * math.pi * math.e * left[-1]).log()
    exact = float(prior + layers + last) / math.log(2)

    d = 1 + len(times)
    axes = math.sqrt(d) * torch.eye(d, dtype=DOUBLE)
    points = torch.cat([axes, -axes])
    draws = itertools.count(1)

    def draw(x: Tensor) -> Tensor:
        return points[:, next(draws), None].expand_as(x)

    denoise, end = gaussian_denoiser(path), numbers(float(times[-1]))
    decoder = gaussian_decoder(lambda z: denoise(z, end.expand(len(z))), float(left[-1]))
    model = Diffusion(denoise, path, times, decoder)
    bound = elbo(model, M + math.sqrt(S2) * points[:, :1], draw)
    found = float(bound.bits_per_dimension(1).mean())
    what = "bound of a Gaussian diffusion, bits per dimension"
    return absolute_case(ROOM, what, exact, found, 1e-9, "Kingma et al. 2021, equation 13")


def _phase_law() -> Case:
    """From the law u^(1/3) to u^(1/2): levels are (n u + m u^(2/3))/(n + m), m = ``PRIOR``."""
    n = 1024
    u = (np.arange(n) + 0.5) / n
    known = PhaseLaw.fit(np.sqrt((np.arange(2**16) + 0.5) / 2**16)[:, None])
    drawn = np.cbrt(u)[:, None]
    found = known.mapped(drawn, drawn)[:, 0]
    expected = np.sqrt((n * u + PRIOR * np.cbrt(u) ** 2) / (n + PRIOR))
    error = float(np.abs(found - expected).max())
    # Half a knot times the slope of the law where it is steepest.
    room = 0.25 / KNOTS / float(expected[0])
    return absolute_case(
        ROOM, "fractions from one law to another", 0.0, error, room, "Santambrogio"
    )
