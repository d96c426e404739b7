"""Samplers that follow the score with noise: weak orders and exact laws, by ``law``."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from generators.dynamics import stochastic
from generators.dynamics.parameterisation import field_of
from generators.dynamics.samplers import Noise, standard_normal
from generators.dynamics.schedules import EDM, SDE, VE, VP, SubVP, rho_sigmas
from generators.dynamics.stochastic import (
    WEAK_ORDER,
    annealed_langevin,
    euler_maruyama,
    langevin,
    predictor_corrector,
)
from loop.errors import InvalidInputError
from tests.generators.gaussians import Gaussian, drawing, law, numbers, order, scalar


def vp_times(n: int) -> Tensor:
    return torch.linspace(1.0, 0.01, n + 1, dtype=torch.float64)


def variance_errors(
    run: Callable[[int], Callable[[Tensor, Noise], Tensor]],
    draws_a_step: int,
    steps: list[int],
    ends: tuple[Gaussian, SDE, float, float],
) -> list[float]:
    """Errors of the exact final variance, the start being the exact marginal."""
    data, sde, start, end = ends
    mean, variance = (float(part) for part in data.marginal(sde, start))
    exact = float(data.marginal(sde, end)[1])
    return [abs(law(run(n), draws_a_step * n, mean, variance)[1] - exact) for n in steps]


@pytest.mark.parametrize("sde", [VP(1.0, 1.0), VP(), SubVP()])
def test_the_reverse_sde_has_its_declared_weak_order(sde: SDE) -> None:
    data = scalar(2.0, 0.25)
    start = 5.0 if sde == VP(1.0, 1.0) else 1.0
    steps = [64, 128, 256]

    def run(n: int) -> Callable[[Tensor, Noise], Tensor]:
        times = torch.linspace(start, 1e-3, n + 1, dtype=torch.float64)
        return lambda x, z: euler_maruyama(data.score(sde), x, sde, times, noise=z)

    errors = variance_errors(run, 1, steps, (data, sde, start, 1e-3))
    assert order(errors, steps) == pytest.approx(WEAK_ORDER["euler_maruyama"], abs=0.1)
    assert errors[-1] < 0.02


def test_predictor_and_corrector_have_their_declared_weak_order() -> None:
    """The corrector's ratio falls as √h: at a fixed one its own bias is what remains."""
    data, sde, steps = scalar(2.0, 0.25), VP(1.0, 1.0), [64, 128, 256]

    def run(n: int) -> Callable[[Tensor, Noise], Tensor]:
        times = torch.linspace(5.0, 1e-3, n + 1, dtype=torch.float64)
        ratio = 0.16 * math.sqrt(64 / n)
        return lambda x, z: predictor_corrector(
            data.score(sde), x, sde, times, noise=z, ratio=ratio
        )

    errors = variance_errors(run, 2, steps, (data, sde, 5.0, 1e-3))
    assert order(errors, steps) == pytest.approx(WEAK_ORDER["predictor_corrector"], abs=0.15)


def test_the_corrector_mends_what_the_predictor_does() -> None:
    data, sde = scalar(2.0, 0.25), VP()
    times = torch.linspace(1.0, 1e-3, 65, dtype=torch.float64)
    ends = (data, sde, 1.0, 1e-3)
    score = data.score(sde)
    (alone,) = variance_errors(
        lambda _: lambda x, z: euler_maruyama(score, x, sde, times, noise=z), 1, [64], ends
    )
    (both,) = variance_errors(
        lambda _: lambda x, z: predictor_corrector(score, x, sde, times, noise=z, corrections=2),
        3,
        [64],
        ends,
    )
    assert both < 0.6 * alone


def test_the_reverse_sde_leaves_a_standard_normal_as_it_is() -> None:
    """Score −x, β = 1: a step h makes (1 − h/2)² V + h of V; a turned sign lets it grow."""
    times = torch.linspace(5.0, 0.0, 201, dtype=torch.float64)
    mean, variance = law(
        lambda x, z: euler_maruyama(lambda y, _: -y, x, VP(1.0, 1.0), times, noise=z), 200, 0.0, 1.0
    )
    assert mean == 0
    assert variance == pytest.approx(1 / (1 - 0.025 / 4), rel=1e-4)  # fixed point, to e⁻⁵


@pytest.mark.parametrize("sde", [VP(), SubVP(), VE(0.01, 50.0), EDM()])
def test_the_reverse_sde_ends_at_the_data(sde: SDE) -> None:
    data = scalar(2.0, 0.25)
    times = rho_sigmas(400, 0.01, 50.0) if sde == EDM() else vp_times(400)
    start, end = float(times[0]), float(times[-1])
    before, after = data.marginal(sde, start), data.marginal(sde, end)
    mean, variance = law(
        lambda x, z: euler_maruyama(data.score(sde), x, sde, times, noise=z),
        400,
        float(before[0]),
        float(before[1]),
    )
    assert mean == pytest.approx(float(after[0]), abs=0.01)
    assert variance == pytest.approx(float(after[1]), rel=0.03)


def test_unadjusted_langevin_has_its_stationary_variance() -> None:
    """s²/(1 − η/(2 s²)): 0.625 for s² = 0.5, η = 0.2."""
    _, variance = law(
        lambda x, z: langevin(lambda y, _: -y / 0.5, x, 0.0, 0.2, 60, noise=z), 60, 0.0, 3.0
    )
    assert variance == pytest.approx(0.625, rel=1e-10)


def test_langevin_has_its_declared_weak_order() -> None:
    errors = []
    for eta in (0.2, 0.1, 0.05):
        n = round(12 / eta)
        sampler = drawing(partial(langevin, lambda y, _: -y / 0.5), 0.0, eta, n)
        _, variance = law(sampler, n, 0.0, 0.5)
        errors.append(variance - 0.5)
    slope = np.polyfit(np.log([0.2, 0.1, 0.05]), np.log(errors), 1)[0]
    assert slope == pytest.approx(WEAK_ORDER["langevin"], abs=0.15)


def test_annealed_langevin_ends_at_the_law_of_its_last_level() -> None:
    """v/(1 − η/(2 v)), v = s² + σ²: from a start that is far off."""
    data, sigmas = scalar(2.0, 0.25), torch.logspace(1, -1, 10, dtype=torch.float64)
    v, step = 0.25 + 0.01, 0.008
    mean, variance = law(
        lambda x, z: annealed_langevin(
            data.score(EDM()), x, sigmas, step=step, repeats=60, noise=z
        ),
        600,
        0.0,
        100.0,
    )
    assert mean == pytest.approx(2.0, abs=0.01)
    assert variance == pytest.approx(v / (1 - step / (2 * v)), rel=0.01)


def test_annealed_steps_grow_with_the_square_of_the_noise() -> None:
    """η = step (σ/σ_last)², times the score 1, nothing drawn; σ is the score's time."""
    x, asked = torch.zeros(1, 1, dtype=torch.float64), []

    def score(y: Tensor, t: Tensor) -> Tensor:
        asked.append(float(t[0]))
        return torch.ones_like(y)

    end = annealed_langevin(
        score, x, numbers(4.0, 2.0, 1.0), step=0.01, repeats=2, noise=torch.zeros_like
    )
    assert float(end) == pytest.approx(2 * 0.01 * (16 + 4 + 1))
    assert asked == [4, 4, 2, 2, 1, 1]


def test_images_keep_shape_precision_and_what_was_given() -> None:
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    given, noise = x.clone(), standard_normal(torch.Generator().manual_seed(2))
    score = field_of(lambda y, _: y / 2, "score", VP())
    times = torch.linspace(1, 0.1, 5)
    for end in (
        euler_maruyama(score, x, VP(), times, noise=noise),
        predictor_corrector(score, x, VP(), times, noise=noise),
        annealed_langevin(score, x, times, step=1e-3, repeats=2, noise=noise),
    ):
        assert end.shape == x.shape
        assert end.dtype == torch.float32
        assert bool(torch.isfinite(end).all())
    assert torch.equal(x, given)


def test_no_sample_depends_on_those_beside_it() -> None:
    """Rows together are rows alone, the corrector's step included."""
    x = torch.randn(4, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    sde, times = VP(), vp_times(8)

    def run(rows: Tensor) -> Tensor:
        score = scalar(2.0, 0.25).score(sde)
        return predictor_corrector(score, rows, sde, times, noise=torch.ones_like)

    assert torch.allclose(run(x)[1:2], run(x[1:2]), atol=1e-12)


def test_every_sampler_has_a_declared_order() -> None:
    assert set(WEAK_ORDER) == {"euler_maruyama", "predictor_corrector", "langevin"}
    assert all(callable(getattr(stochastic, name)) for name in WEAK_ORDER)


def test_times_that_do_not_fall_are_refused() -> None:
    score, x = scalar(2.0, 0.25).score(VP()), torch.zeros(2, 1, dtype=torch.float64)
    for times in (numbers(0, 0.5, 1), numbers(1), numbers(1, 0.5, 0.5)):
        for sampler in (euler_maruyama, predictor_corrector):
            with pytest.raises(InvalidInputError, match="from noise to data"):
                sampler(score, x, VP(), times, noise=torch.zeros_like)
        with pytest.raises(InvalidInputError, match="from noise to data"):
            annealed_langevin(score, x, times, step=0.1, repeats=1, noise=torch.zeros_like)
