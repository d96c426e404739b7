"""Noising processes by name: levels of unit scale, the times that are drawn, where they end."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from generators.dynamics.schedules import VE, VP, Level
from generators.processes import (
    DIFFERENTIAL,
    EDM_MEAN,
    EDM_SPREAD,
    LEAST_TIME,
    PATHS,
    Process,
    level_at,
    straight_time,
    unit_level,
)
from loop.errors import InvalidInputError
from tests.generators.gaussians import numbers

N = 20_000
KS = 1.95 / math.sqrt(N)  # Kolmogorov's bound that one draw in a thousand exceeds


@pytest.mark.parametrize("name", PATHS)
def test_unit_levels_have_the_ratio_of_the_path(name: str) -> None:
    process = Process(name)
    level = process.path.level(process.times(10)[:-1])
    unit = unit_level(level)
    assert (unit.signal**2 + unit.noise**2).numpy() == pytest.approx(np.ones(10), abs=1e-14)
    assert unit.snr.numpy() == pytest.approx(level.snr.numpy(), rel=1e-12)
    tau = straight_time(level)
    assert ((tau / (1 - tau)) ** 2).numpy() == pytest.approx(level.snr.numpy(), rel=1e-12)
    back = level_at(tau)
    assert back.signal.numpy() == pytest.approx(unit.signal.numpy(), abs=1e-14)
    assert back.noise.numpy() == pytest.approx(unit.noise.numpy(), abs=1e-14)


@pytest.mark.parametrize("name", PATHS)
def test_levels_that_are_drawn_lie_between_the_ends(name: str) -> None:
    process = Process(name)
    drawn = process.draw(N, torch.Generator().manual_seed(0))
    assert drawn.signal.dtype == torch.float32
    first, last = process.span
    tau = straight_time(drawn).double()
    assert float(tau.min()) >= first * (1 - 1e-6)
    assert float(tau.max()) <= last * (1 + 1e-6)
    assert 0 < first < 0.02
    assert 0.98 < last < 1


def test_times_are_drawn_as_the_papers_have_them() -> None:
    """Uniform in t for the SDEs, in whole steps for DDPM; log-normal in sigma for EDM."""
    stream = torch.Generator().manual_seed(1)
    vp, ve = VP(), VE()
    signal, _ = Process("vp").draw(N, stream)
    integral = -2 * signal.double().log().numpy()  # of β up to t, whose inverse gives t
    slope = vp.last - vp.first
    t = (np.sqrt(vp.first**2 + 2 * slope * integral) - vp.first) / slope
    uniform = stats.uniform(LEAST_TIME, 1 - LEAST_TIME)
    assert stats.kstest(t, uniform.cdf).statistic < KS
    level = Process("ve").draw(N, stream)
    sigma = (level.noise / level.signal).double().numpy()
    t = np.log(sigma / ve.least) / math.log(ve.most / ve.least)
    assert stats.kstest(t, uniform.cdf).statistic < KS
    level = Process("edm").draw(N, stream)
    sigma = (level.noise / level.signal).double().numpy()
    assert stats.kstest(np.log(sigma), stats.norm(EDM_MEAN, EDM_SPREAD).cdf).statistic < KS
    level = Process("linear").draw(N, stream)
    known = PATHS["linear"].level(torch.arange(1, 1001)).signal.numpy()
    step = np.searchsorted(-known, -level.signal.double().numpy() - 1e-7)
    counts = np.bincount(step, minlength=1000)
    # Variance 2 of each of 999 terms; four standard deviations.
    assert abs(stats.chisquare(counts).statistic - 999) < 4 * math.sqrt(2 * 999)


@pytest.mark.parametrize("name", PATHS)
def test_times_fall_from_noise_to_data(name: str) -> None:
    process = Process(name)
    times = process.times(7)
    levels = process.path.level(times)
    assert len(times) == 8
    assert bool((levels.noise.diff() < 0).all())
    assert levels.noise[0] == process.noisiest.noise
    assert float(levels.noise[-1]) == (0.01 if name == "ve" else 0.0)
    if name in DIFFERENTIAL:
        ends = process.path.level(process.noisy_times(7))
        assert ends.noise[0] == process.noisiest.noise
        assert float(straight_time(ends)[-1]) == pytest.approx(process.span[1], rel=1e-2)
        assert float(ends.noise[-1]) > 0
        assert process.sde.diffusion(numbers(0.5)) > 0


def test_what_there_is_not() -> None:
    with pytest.raises(InvalidInputError, match="unknown process 'cosin'; did you mean 'cosine'"):
        Process("cosin")
    for name in set(PATHS) - set(DIFFERENTIAL):
        with pytest.raises(InvalidInputError, match="has steps and no stochastic differential"):
            _ = Process(name).sde
    with pytest.raises(InvalidInputError, match="1001 steps; expected 1 to 1000"):
        Process("linear").times(1001)


def test_the_levels_of_edm_are_its_preconditioning() -> None:
    """c_skip and c_out of Karras et al. 2022, table 1, at σ_data = 1, from v at unit scale."""
    sigma = numbers(0.01, 0.5, 3.0, 80.0)
    signal, noise = unit_level(Level(torch.ones_like(sigma), sigma))
    c_in, c_skip, c_out = (
        1 / (1 + sigma**2).sqrt(),
        1 / (1 + sigma**2),
        sigma / (1 + sigma**2) ** 0.5,
    )
    x, v = numbers(0.3, -2.0, 1.0, 50.0), numbers(1.0, 0.2, -0.7, 0.1)
    denoised = signal * (c_in * x) - noise * v
    assert denoised.numpy() == pytest.approx((c_skip * x + c_out * -v).numpy(), rel=1e-12)
