"""Noise schedules against printed figures, their differential equations and their limits."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from generators.dynamics import schedules
from generators.dynamics.schedules import (
    EDM,
    SDE,
    VE,
    VP,
    Discrete,
    Straight,
    SubVP,
    every_row,
    rho_sigmas,
)
from loop.errors import InvalidInputError
from tests.generators.gaussians import numbers

SDES: list[SDE] = [VP(), VP(1.0, 1.0), SubVP(), VE(), EDM()]
DISCRETE: list[Callable[[int], Discrete]] = [
    schedules.linear,
    schedules.cosine,
    schedules.sigmoid,
]


def test_the_linear_schedule_ends_at_the_printed_figures() -> None:
    last = float(schedules.linear().alpha_bar[-1])
    assert last == pytest.approx(4.036e-5, rel=1e-4)
    assert math.sqrt(last) == pytest.approx(6.353e-3, rel=1e-4)
    terminal = 0.5 * (last + (1 - last) - math.log(1 - last) - 1)
    assert terminal == pytest.approx(2.018e-5, rel=1e-4)


def test_the_linear_schedule_is_the_product_of_its_betas() -> None:
    betas = np.linspace(1e-4, 0.02, 1000)
    expected = np.concatenate([[1.0], np.cumprod(1 - betas)])
    found = schedules.linear()
    assert found.alpha_bar.numpy() == pytest.approx(expected, rel=1e-13)
    assert found.betas.numpy() == pytest.approx(betas, rel=1e-9)
    assert found.steps == 1000


@pytest.mark.parametrize("make", DISCRETE)
@pytest.mark.parametrize("steps", [2, 10, 1000])
def test_discrete_schedules_begin_at_one_and_fall_and_stay_finite(
    make: Callable[[int], Discrete], steps: int
) -> None:
    found = make(steps)
    a = found.alpha_bar
    assert float(a[0]) == 1.0
    assert bool((a.diff() < 0).all())
    assert 0 < float(found.betas.min()) <= float(found.betas.max()) <= 0.999 + 1e-12
    level = found.level(torch.arange(steps + 1))
    assert bool(torch.isfinite(level.signal).all() & (level.signal > 0).all())
    assert (float(level.signal[0]), float(level.noise[0])) == (1.0, 0.0)
    assert torch.allclose(level.signal**2 + level.noise**2, torch.ones(steps + 1).double())


def test_the_cosine_schedule_is_the_printed_one_until_it_is_clipped() -> None:
    """Taken literally ᾱ_T = cos²(π/2) = 0 and β_T = 1: only the last β is clipped."""
    t = np.arange(1001) / 1000
    f = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    assert f[-1] == pytest.approx(0, abs=1e-30)
    found = schedules.cosine()
    assert found.alpha_bar[:-1].numpy() == pytest.approx(f[:-1] / f[0], rel=1e-9)
    assert float(found.alpha_bar[-1]) == pytest.approx(1e-3 * f[-2] / f[0], rel=1e-9)


def test_the_sigmoid_schedule_is_symmetric_about_a_half() -> None:
    a = schedules.sigmoid(1000).alpha_bar[:-1].numpy()
    assert a[500] == pytest.approx(0.5, abs=1e-12)
    assert a[1:] + a[:0:-1] == pytest.approx(np.ones(999), abs=1e-12)
    steep = schedules.sigmoid(1000, temperature=0.3).alpha_bar.numpy()
    assert steep[250] > a[250]
    assert steep[750] < a[750]


@pytest.mark.parametrize("times", [[-1.0], [1001.0], [3.5], [0.0, 1e9]])
def test_times_outside_a_discrete_schedule_are_refused(times: list[float]) -> None:
    with pytest.raises(InvalidInputError, match="whole numbers from 0"):
        schedules.linear().level(numbers(*times))


@pytest.mark.parametrize(
    "values", [[1.0], [0.9, 0.5], [1.0, 0.5, 0.5], [1.0, 0.5, 0.6], [1.0, 0.5, 0.0], [1.0, np.nan]]
)
def test_a_wrong_alpha_bar_is_refused(values: list[float]) -> None:
    with pytest.raises(InvalidInputError, match="alpha_bar"):
        Discrete(numbers(*values))
    with pytest.raises(InvalidInputError, match="float64"):
        Discrete(numbers(1.0, 0.5).float())


def test_sub_grids_run_from_noise_to_data() -> None:
    schedule = schedules.linear()
    assert schedule.times().tolist() == list(range(1000, -1, -1))
    assert schedule.times(4).tolist() == [1000, 750, 500, 250, 0]
    for n in (1, 7, 333, 999):
        t = schedule.times(n)
        assert (len(t), float(t[0]), float(t[-1])) == (n + 1, 1000, 0)
        assert bool((t.diff() < 0).all())
    for n in (0, 1001):
        with pytest.raises(InvalidInputError, match="expected 1 to 1000"):
            schedule.times(n)


@pytest.mark.parametrize("sde", SDES)
def test_levels_solve_the_moment_equations_of_the_sde(sde: SDE) -> None:
    """dα/dt = f α and dσ²/dt = 2 f σ² + g², by central differences of second order."""
    t, h = torch.linspace(0.05, 0.95, 19, dtype=torch.float64), 1e-5
    low, at, high = sde.level(t - h), sde.level(t), sde.level(t + h)
    f, g = sde.drift(t), sde.diffusion(t)
    slope = (high.signal - low.signal) / (2 * h)
    assert slope.numpy() == pytest.approx((f * at.signal).numpy(), rel=1e-6, abs=1e-9)
    slope = (high.noise**2 - low.noise**2) / (2 * h)
    assert slope.numpy() == pytest.approx((2 * f * at.noise**2 + g**2).numpy(), rel=1e-6, abs=1e-9)


def test_the_variance_preserving_process() -> None:
    t = numbers(0.0, 0.3, 1.0)
    level = VP().level(t)
    integral = 0.1 * t + 0.5 * 19.9 * t**2
    assert torch.allclose(level.signal**2, torch.exp(-integral), rtol=1e-14)
    assert torch.allclose(level.signal**2 + level.noise**2, torch.ones(3).double())
    assert float(level.noise[0]) == 0
    five = VP(1.0, 1.0).level(numbers(5.0))
    assert float(five.signal) == pytest.approx(math.exp(-2.5), rel=1e-14)
    assert float(VP().drift(numbers(1.0))) == -10
    assert float(VP().diffusion(numbers(1.0))) == pytest.approx(math.sqrt(20))


def test_sub_vp_has_the_mean_of_vp_and_the_square_of_its_noise_variance() -> None:
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    vp, sub = VP().level(t), SubVP().level(t)
    assert torch.equal(vp.signal, sub.signal)
    assert torch.allclose(sub.noise**2, vp.noise**4, rtol=1e-12)


def test_the_variance_exploding_process_ends_where_it_is_told() -> None:
    level = VE(0.02, 60.0).level(numbers(0.0, 0.5, 1.0))
    assert level.noise.tolist() == pytest.approx([0.02, math.sqrt(0.02 * 60), 60.0], rel=1e-14)
    assert level.signal.tolist() == [1, 1, 1]


def test_the_straight_path_has_noise_first() -> None:
    level = Straight().level(numbers(0.0, 0.25, 1.0))
    assert level.signal.tolist() == [0, 0.25, 1]
    assert level.noise.tolist() == [1, 0.75, 0]


@pytest.mark.parametrize("zero", [False, True])
def test_the_rho_grid(zero: bool) -> None:
    grid = rho_sigmas(18, zero=zero)
    assert len(grid) == 19
    kept = grid[:-1] if zero else grid
    assert (float(kept[0]), float(kept[-1])) == pytest.approx((80.0, 0.002), rel=1e-12)
    root = kept.numpy() ** (1 / 7)
    assert np.diff(root) == pytest.approx(np.diff(root)[0], rel=1e-10)
    assert (float(grid[-1]) == 0) == zero


@pytest.mark.parametrize(
    ("steps", "least", "zero"), [(0, 0.1, False), (1, 0.1, True), (4, 90, False)]
)
def test_a_wrong_rho_grid_is_refused(steps: int, least: float, zero: bool) -> None:
    with pytest.raises(InvalidInputError, match="0 < least < most"):
        rho_sigmas(steps, least, zero=zero)


def test_levels_take_the_shape_and_precision_of_a_state() -> None:
    x = torch.zeros(3, 2, 4, 4)
    level = VP().level(torch.linspace(0, 1, 3, dtype=torch.float64)).like(x)
    assert level.signal.shape == level.noise.shape == (3, 1, 1, 1)
    assert level.signal.dtype == torch.float32
    assert every_row(0.25, x).tolist() == [0.25] * 3
    assert float(VP().level(numbers(0.0)).snr) == math.inf
