"""Samplers of denoisers: declared orders, printed figures, exact laws, no luck.

On Gaussian data the end of a sampler is affine in its start and its draws, so ``law`` finds its
mean and variance exactly; nothing here is estimated from samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from generators.dynamics import samplers, schedules
from generators.dynamics.parameterisation import (
    Denoiser,
    Kind,
    denoiser_of,
    field_of,
    noised,
    probability_flow,
)
from generators.dynamics.samplers import (
    ORDER,
    Noise,
    adaptive,
    ddim,
    ddpm,
    dpm_solver_pp,
    edm,
    euler,
    heun,
    standard_normal,
)
from generators.dynamics.schedules import EDM, VP, Path, Straight, rho_sigmas
from loop.errors import InvalidInputError
from tests.generators.gaussians import Gaussian, drawing, law, numbers, order, scalar

LINEAR = schedules.linear()
MEAN = numbers(2.0, -1.0, 0.5)
ROOT = torch.tensor([[0.5, 0.1, 0.0], [0.1, 1.2, -0.3], [0.0, -0.3, 0.8]], dtype=torch.float64)
DATA = Gaussian(MEAN, ROOT @ ROOT)
NOISE = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

Solver = Callable[[Denoiser, Tensor, Path, Tensor], Tensor]
Grid = Callable[[int], Tensor]


def no_noise(_: Tensor) -> Tensor:
    raise AssertionError("a deterministic sampler drew noise")


def vp_times(n: int) -> Tensor:
    return torch.linspace(1.0, 0.01, n + 1, dtype=torch.float64)


def straight_times(n: int) -> Tensor:
    return torch.linspace(0.0, 0.99, n + 1, dtype=torch.float64)


# Orders


@pytest.mark.parametrize(
    ("path", "grid"), [(EDM(), rho_sigmas), (VP(), vp_times), (Straight(), straight_times)]
)
@pytest.mark.parametrize("name", ["ddim", "dpm_solver_pp"])
def test_declared_order_on_every_path(name: str, path: Path, grid: Grid) -> None:
    """End points on the exact probability flow of a correlated Gaussian."""
    solve: Solver = getattr(samplers, name)
    steps, errors = [64, 128, 256, 512], []
    for n in steps:
        times = grid(n)
        start, end = float(times[0]), float(times[-1])
        centre, covariance = DATA.marginal(path, start)
        x = centre + NOISE * covariance.diagonal().sqrt()
        exact = DATA.carried(path, x, start, end)
        errors.append(float((solve(DATA.denoiser(path), x, path, times) - exact).abs().max()))
    assert order(errors, steps) == pytest.approx(ORDER[name], abs=0.2)
    assert errors[-1] < 0.02


def edm_velocity(data: Gaussian) -> Callable[[Tensor, Tensor], Tensor]:
    return probability_flow(field_of(data.denoiser(EDM()), "score", EDM()), EDM())


@pytest.mark.parametrize("name", ["euler", "heun", "edm"])
def test_declared_order_on_the_rho_grid(name: str) -> None:
    """σ from 80 to 0.002, 8 to 512 steps; the end is m + (x_T − m) s/√(s² + σ_max²) at σ = 0."""
    data, m, s = scalar(2.0, 0.25), 2.0, 0.5
    x = numbers(-160.0, -40.0, 2.0, 90.0)[:, None]
    limit = m + (x - m) * s / math.sqrt(s**2 + 80**2)
    exact = data.carried(EDM(), x, 80.0, 0.002)
    assert exact.numpy() == pytest.approx(limit.numpy(), abs=2e-5)
    steps = [8, 16, 32, 64, 128, 256, 512]
    ends = [
        edm(data.denoiser(EDM()), x, rho_sigmas(n))
        if name == "edm"
        else {"euler": euler, "heun": heun}[name](edm_velocity(data), x, rho_sigmas(n))
        for n in steps
    ]
    errors = [float((end - exact).abs().max()) for end in ends]
    assert order(errors, steps) == pytest.approx(ORDER[name], abs=0.1)
    assert errors[-1] < {1: 0.01, 2: 1e-4}[ORDER[name]]


def test_declared_order_of_the_adaptive_integrator() -> None:
    """Steps held at their longest: the tolerance is out of reach."""
    velocity = probability_flow(DATA.score(VP()), VP())
    exact = DATA.carried(VP(), NOISE, 1.0, 0.2)
    steps, errors = [4, 8, 16, 32], []
    for n in steps:
        end = adaptive(velocity, NOISE, numbers(1.0, 0.2), tolerance=1e6, longest_step=0.8 / n)
        errors.append(float((end - exact).abs().max()))
    assert order(errors, steps) == pytest.approx(ORDER["adaptive"], abs=0.4)


@pytest.mark.parametrize("tolerance", [1e-4, 1e-6, 1e-8, 1e-10])
def test_the_adaptive_integrator_keeps_its_tolerance(tolerance: float) -> None:
    """Of the sum of its steps: a hundredfold is allowed for their growth along the path."""
    velocity = probability_flow(DATA.score(VP()), VP())
    end = adaptive(velocity, NOISE, numbers(1.0, 0.0), tolerance=tolerance)
    exact = DATA.carried(VP(), NOISE, 1.0, 0.0)
    assert float((end - exact).abs().max()) < 100 * tolerance


def test_the_flow_of_a_gaussian_ends_at_the_printed_figure() -> None:
    """x_t = a m + √(v_t/s²) (x_0 − m): β = 1, t = 5, m = 2, s² = 0.25, x_0 = 3.1."""
    path = VP(1.0, 1.0)
    velocity = probability_flow(scalar(2.0, 0.25).score(path), path)
    end = adaptive(velocity, numbers(3.1)[:, None], numbers(0.0, 5.0), tolerance=1e-10)
    assert float(end) == pytest.approx(2.35860415, abs=1e-8)


def test_ddpm_has_its_declared_order() -> None:
    """Its variance on N(m, s²), exact, against that of the marginal it ends at."""
    data, path = scalar(2.0, 0.25), VP()
    steps, errors = [64, 128, 256], []
    for n in steps:
        times = vp_times(n)
        (a,), (v,) = data.marginal(path, 1.0)
        sampler = drawing(partial(ddpm, data.denoiser(path)), path, times)
        _, variance = law(sampler, n, float(a), float(v))
        errors.append(abs(variance - float(data.marginal(path, 0.01)[1])))
    assert order(errors, steps) == pytest.approx(ORDER["ddpm"], abs=0.15)


# DDPM and DDIM


@pytest.mark.parametrize(("s2", "variance"), [(0.25, 0.24613), (1.0, 0.99107), (4.0, 3.97478)])
def test_the_ancestral_sampler_ends_with_the_printed_variance(s2: float, variance: float) -> None:
    """Optimal ε*, m = 0, linear schedule, T = 1000; the last step draws nothing.

    ᾱ and α exchanged, β outside the root or a step off by one all change it.
    """
    network = field_of(scalar(0.0, s2).denoiser(LINEAR), "epsilon", LINEAR)
    denoise = denoiser_of(network, "epsilon", LINEAR)
    for sampler in (
        lambda x, z: ddpm(denoise, x, LINEAR, LINEAR.times(), noise=z),
        lambda x, z: ddim(denoise, x, LINEAR, LINEAR.times(), eta=1.0, noise=z),
    ):
        mean, found = law(sampler, 999, 0.0, 1.0)
        assert mean == 0
        assert found == pytest.approx(variance, abs=5.1e-6)


@pytest.mark.parametrize("steps", [7, 250])
def test_ddim_with_full_eta_is_ddpm(steps: int) -> None:
    """Same draws, same samples, on sub-grids too."""
    denoise, times = DATA.denoiser(LINEAR), LINEAR.times(steps)

    def seeded() -> Noise:
        return standard_normal(torch.Generator().manual_seed(3))

    found = ddim(denoise, NOISE, LINEAR, times, eta=1.0, noise=seeded())
    expected = ddpm(denoise, NOISE, LINEAR, times, noise=seeded())
    assert torch.allclose(found, expected, atol=1e-10)


def test_ddim_without_eta_is_the_same_twice_and_draws_nothing() -> None:
    denoise, times = DATA.denoiser(LINEAR), LINEAR.times(20)
    first = ddim(denoise, NOISE, LINEAR, times, noise=no_noise)
    assert torch.equal(first, ddim(denoise, NOISE, LINEAR, times))


def test_the_law_of_ddim_between_its_ends() -> None:
    """Any η keeps the marginals to first order: 0.3 too."""
    data = scalar(1.0, 0.25)
    for eta, draws in ((0.0, 0), (0.3, 499), (1.0, 499)):
        sampler = partial(ddim, data.denoiser(LINEAR), eta=eta)
        mean, variance = law(drawing(sampler, LINEAR, LINEAR.times(500)), draws, 0.0, 1.0)
        assert mean == pytest.approx(1.0, abs=0.01)
        assert variance == pytest.approx(0.25, abs=0.015)


@given(times=st.sets(st.integers(1, 1000), min_size=1, max_size=12))
def test_exact_noise_gives_the_data_back_on_any_sub_grid(times: set[int]) -> None:
    grid = numbers(*sorted(times, reverse=True), 0)
    x0, level = MEAN.expand(6, 3), LINEAR.level(grid[:1])
    x = noised(x0, NOISE, level)
    denoise = denoiser_of(lambda *_: NOISE, "epsilon", LINEAR)
    for solve in (ddim, dpm_solver_pp):
        end = solve(denoise, x, LINEAR, grid)
        assert end.numpy() == pytest.approx(x0.numpy(), abs=1e-9)


KINDS: list[Kind] = ["x0", "epsilon", "v", "score", "flow"]


@pytest.mark.parametrize(
    "sampler",
    [
        lambda d, x, z: ddpm(d, x, LINEAR, LINEAR.times(50), noise=z),
        lambda d, x, z: ddim(d, x, LINEAR, LINEAR.times(50), eta=0.5, noise=z),
        lambda d, x, _: dpm_solver_pp(d, x, LINEAR, LINEAR.times(50)),
    ],
)
def test_models_of_every_kind_give_the_same_samples(
    sampler: Callable[[Denoiser, Tensor, Noise], Tensor],
) -> None:
    denoise = DATA.denoiser(LINEAR)
    expected = sampler(denoise, NOISE, standard_normal(torch.Generator().manual_seed(0)))
    for kind in KINDS:
        converted = denoiser_of(field_of(denoise, kind, LINEAR), kind, LINEAR)
        found = sampler(converted, NOISE, standard_normal(torch.Generator().manual_seed(0)))
        assert torch.allclose(found, expected, atol=1e-9)


def test_the_last_step_is_noiseless_and_clean() -> None:
    """One draw fewer than steps; the end is the denoiser's last answer."""
    answers: list[Tensor] = []

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        answers.append(DATA.denoiser(LINEAR)(x, t))
        return answers[-1]

    for sampler, draws in (
        (lambda z: ddpm(denoise, NOISE, LINEAR, LINEAR.times(9), noise=z), 8),
        (lambda z: ddim(denoise, NOISE, LINEAR, LINEAR.times(9), eta=1.0, noise=z), 8),
        (lambda _: dpm_solver_pp(denoise, NOISE, LINEAR, LINEAR.times(9)), 0),
        (lambda _: edm(denoise, 80 * NOISE, numbers(100.0, 40.0, 2.0, 0.0)), 0),
    ):
        made = 0

        def count(x: Tensor) -> Tensor:
            nonlocal made
            made += 1
            return torch.ones_like(x)

        end = sampler(count)
        assert made == draws
        assert torch.allclose(end, answers[-1], atol=1e-12)


@pytest.mark.parametrize("make", [schedules.linear, schedules.cosine, schedules.sigmoid])
def test_samples_are_finite_from_the_noisiest_time(make: Callable[[], schedules.Discrete]) -> None:
    schedule = make()
    denoise = denoiser_of(
        field_of(DATA.denoiser(schedule), "epsilon", schedule), "epsilon", schedule
    )
    for solve in (ddim, dpm_solver_pp):
        end = solve(denoise, NOISE, schedule, schedule.times(100))
        assert end.numpy() == pytest.approx((MEAN + NOISE @ ROOT).numpy(), abs=0.25)


# Churn


def test_churn_keeps_the_marginals() -> None:
    """Noise added and taken away again: the law is the same but for an error of second order."""
    data = scalar(2.0, 0.25)
    start, end = data.marginal(EDM(), 80.0), data.marginal(EDM(), 0.002)
    errors = []
    for n in (64, 256):
        sampler = drawing(partial(edm, data.denoiser(EDM()), churn=0.1 * n), rho_sigmas(n))
        mean, variance = law(sampler, n, float(start[0]), float(start[1]))
        assert mean == pytest.approx(float(end[0]), abs=1e-6)
        errors.append(abs(variance - float(end[1])))
    assert errors[0] < 0.01
    assert errors[1] < errors[0] / 4


@pytest.mark.parametrize(("churn", "gamma"), [(0.4, 0.1), (1e3, math.sqrt(2) - 1)])
def test_churn_raises_the_noise_as_printed(churn: float, gamma: float) -> None:
    """γ = min(S_churn/N, √2 − 1), σ̂ = (1 + γ) σ, x̂ = x + √(σ̂² − σ²) S_noise z."""
    asked: list[tuple[float, float]] = []

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        asked.append((float(t[0]), float(x[0, 0])))
        return x

    x = torch.full((1, 1), 5.0, dtype=torch.float64)
    grid = numbers(3.0, 2.0, 1.0, 0.5, 0.0)  # four steps
    edm(denoise, x, grid, churn=churn, inflation=1.1, noise=torch.ones_like)
    raised = 3.0 * (1 + gamma)
    assert asked[0] == pytest.approx((raised, 5.0 + math.sqrt(raised**2 - 9) * 1.1))


def test_churn_is_confined_to_its_span() -> None:
    """``law`` asserts the number of draws."""
    denoise, grid = scalar(2.0, 0.25).denoiser(EDM()), rho_sigmas(64)
    inside = int(((grid[:-1] >= 0.05) & (grid[:-1] <= 50)).sum())
    law(lambda x, z: edm(denoise, x, grid, noise=z), 0, 0.0, 1.0)
    law(lambda x, z: edm(denoise, x, grid, churn=9, span=(0.05, 50), noise=z), inside, 0.0, 1.0)


# What every one of them keeps to


def test_images_keep_shape_precision_and_what_was_given() -> None:
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    given, noise = x.clone(), standard_normal(torch.Generator().manual_seed(2))

    def denoise(y: Tensor, t: Tensor) -> Tensor:
        assert t.shape == (2,)
        assert t.dtype == y.dtype == torch.float32
        return y / 2

    times = torch.linspace(1, 0.1, 5)
    ends = [
        ddpm(denoise, x, LINEAR, LINEAR.times(4), noise=noise),
        ddim(denoise, x, LINEAR, LINEAR.times(4), eta=0.2, noise=noise),
        dpm_solver_pp(denoise, x, VP(), times),
        edm(denoise, x, rho_sigmas(4, zero=True)),
        adaptive(lambda y, _: -y, x, times),
    ]
    for end in ends:
        assert end.shape == x.shape
        assert end.dtype == torch.float32
        assert bool(torch.isfinite(end).all())
    assert torch.equal(x, given)
    assert torch.allclose(ends[4], x * math.exp(0.9), rtol=1e-4)


def test_draws_follow_their_seed() -> None:
    def end(seed: int) -> Tensor:
        noise = standard_normal(torch.Generator().manual_seed(seed))
        return ddpm(DATA.denoiser(LINEAR), NOISE, LINEAR, LINEAR.times(5), noise=noise)

    assert torch.equal(end(1), end(1))
    assert not torch.equal(end(1), end(2))


def test_every_sampler_has_a_declared_order() -> None:
    assert set(ORDER) == {"euler", "heun", "adaptive", "ddpm", "ddim", "dpm_solver_pp", "edm"}
    assert all(callable(getattr(samplers, name)) for name in ORDER)


def test_times_that_do_not_run_from_noise_to_data_are_refused() -> None:
    denoise = DATA.denoiser(LINEAR)
    for times in (numbers(0, 500, 1000), numbers(10), numbers(5, 5, 0)):
        with pytest.raises(InvalidInputError, match="from noise to data"):
            ddim(denoise, NOISE, LINEAR, times)
        with pytest.raises(InvalidInputError, match="from noise to data"):
            edm(denoise, NOISE, times)


def test_noise_that_is_needed_and_not_given() -> None:
    denoise = DATA.denoiser(LINEAR)
    for eta in (0.5, -0.1, 1.5):
        with pytest.raises(InvalidInputError, match="eta"):
            ddim(denoise, NOISE, LINEAR, LINEAR.times(5), eta=eta)
    with pytest.raises(InvalidInputError, match="standard_normal"):
        edm(denoise, NOISE, rho_sigmas(5), churn=5)


def test_an_integrator_that_gives_up_says_where() -> None:
    with pytest.raises(InvalidInputError, match="between t = 0 and 2"):
        adaptive(lambda x, _: x**2, numbers(1.0)[:, None], numbers(0.0, 2.0))
