"""Guidance by a regressor of noised states: closed forms of Gaussians and corners, and the flow."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from generators.denoiser import Prediction
from generators.diffusion import draw_states
from generators.dynamics.flow import Velocity
from generators.dynamics.gaussian import GaussianVelocity
from generators.dynamics.parameterisation import noised
from generators.dynamics.readout import GaussianReadout
from generators.dynamics.samplers import heun, uniform_times
from generators.networks.regressor import RegressorSettings
from generators.noisy_regressor import (
    LEAST_SPREAD,
    NoisyRegressor,
    Request,
    led_prediction,
    led_velocity,
)
from generators.processes import PATHS, Process, level_at
from generators.training.denoising import DiffusionSettings
from generators.training.flow_matching import FlowSettings, Rows, RunSettings
from generators.training.regression import even_weights
from loop.protocols import silent

D, K, ROWS = 3, 2, 40_000
DOUBLE = torch.float64
AXES = torch.linalg.qr(torch.tensor([[1.0, 2.0, 0.5], [0.3, -1.0, 2.0], [2.0, 0.1, 1.0]]))[0]
VARIANCE = torch.tensor([4.0, 1.0, 0.25])  # as of parts with different ratios of signal to noise
LAW = GaussianVelocity(torch.tensor([0.5, -1.0, 0.2]), AXES, VARIANCE, torch.tensor([1e-4]))
MIXING = torch.tensor([[0.5, -0.3, 0.6], [-0.2, 0.9, 0.4]])  # properties of the state, (k, d)
NOISE = torch.tensor([[0.25, 0.1], [0.1, 0.3]])  # and what they have besides
SIZES = RegressorSettings(width=16, depth=1, heads=2, channels=8, first_steps=120, batch=256)


def rows(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """States (n, d) and properties (n, k)."""
    stream = torch.Generator().manual_seed(seed)
    z = torch.randn(n, D, generator=stream)
    x = LAW.mean + (z * VARIANCE.sqrt()) @ AXES.T
    e = torch.randn(n, K, generator=stream) @ torch.linalg.cholesky(NOISE).T
    return x, x @ MIXING.T + e


def covariance() -> Tensor:
    return (AXES * VARIANCE) @ AXES.T


def exact(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (b, k) and covariance (b, k, k) of y at x_t = (1 − t) ε + t x_1, by conditioning."""
    s, eye = covariance().double(), torch.eye(D, dtype=DOUBLE)
    means, left = [], []
    for row, time in zip(x.double(), t.double(), strict=True):
        gain = torch.linalg.solve(time**2 * s + (1 - time) ** 2 * eye, time * s).T
        means.append(LAW.mean + gain @ (row - time * LAW.mean))
        left.append(s - time * gain @ s)
    b = MIXING.double()
    return torch.stack(means) @ b.T, b @ torch.stack(left) @ b.T + NOISE


def slope(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """∇_x log p(y | x_t) (b, d)."""
    x = x.double().requires_grad_()
    mean, spread = exact(x, t)
    error = y.double() - mean
    inside = (error * torch.linalg.solve(spread, error)).sum()
    (found,) = torch.autograd.grad(-0.5 * inside, x)
    return found


@cache
def readout() -> GaussianReadout:
    x, y = rows(ROWS)
    return GaussianReadout.fit(LAW, x, y, torch.ones(ROWS))


def untrained(readout: GaussianReadout, settings: RegressorSettings = SIZES) -> NoisyRegressor:
    torch.manual_seed(0)
    return NoisyRegressor.create(
        readout,
        settings,
        latent_shape=None,
        vector_sizes=(len(readout.law.mean),),
        patch=2,
        device="cpu",
    )


def run(settings: RegressorSettings = SIZES) -> RunSettings:
    flow = FlowSettings(regressor=settings)
    return RunSettings([True] * K, flow, True, "cpu", np.random.default_rng(0), silent)


@cache
def trained() -> NoisyRegressor:
    x, y = rows(ROWS)
    data = Rows(x, y.double().numpy(), np.full(ROWS, 1 / ROWS), x[:0])
    levels = Process("cosine").draw
    return untrained(readout()).trained(data, run(), SIZES, levels)[0]


# Closed forms


def test_the_readout_is_the_conditional_of_the_gaussian() -> None:
    """Exact but for the regression's own errors: five standard errors of its coefficients.

    Those of a mean are √(R (r + 1)/n) at a row of unit distance, those of a covariance at most
    √(2/n) of the larger variance.
    """
    x, _ = rows(50, seed=1)
    t = torch.linspace(0.0, 1.0, 50)
    x = t[:, None] * x + (1 - t[:, None]) * torch.randn(x.shape)
    mean, spread = readout()(x, t)
    expected = exact(x, t)
    variance = (MIXING @ covariance() @ MIXING.T + NOISE).diagonal().max()
    scatter = 5 * math.sqrt(float(NOISE.diagonal().max()) * (D + 1) / ROWS)
    # The farthest of 50 rows in three coordinates is within four standard deviations.
    assert mean.numpy() == pytest.approx(expected[0].numpy(), abs=4 * scatter)
    assert spread.numpy() == pytest.approx(
        expected[1].numpy(), abs=5 * float(variance) * math.sqrt(2 / ROWS)
    )


def test_rows_that_lack_a_property_teach_the_others() -> None:
    x, y = rows(2000)
    y[::2, 0] = np.nan
    missing = torch.cat([y, torch.full((2000, 1), np.nan)], dim=1)
    found = GaussianReadout.fit(LAW, x, missing, torch.ones(2000))
    for j, keep in enumerate((slice(1, None, 2), slice(None))):
        own = GaussianReadout.fit(LAW, x[keep], y[keep, j : j + 1], torch.ones(len(x[keep])))
        assert torch.allclose(found.slope[:, j], own.slope[:, 0], atol=1e-5)
        assert float(found.rest[j, j]) == pytest.approx(float(own.rest[0, 0]), rel=1e-4)
    assert float(found.offset[2]) == 0.0
    assert float(found.rest[2, 2]) == pytest.approx(1.0)
    assert float(torch.linalg.eigvalsh(found.rest).min()) > -1e-6


@pytest.mark.parametrize("made", [lambda: untrained(readout()), trained])
def test_its_gradient_is_that_of_the_exact_likelihood(made: object) -> None:
    """At three levels. Untrained, relative errors of slope, mean and covariance are
    √(r R/n)/|A|, √((r + 1)/n) and √(2 k/n), less than 0.03 together; three of these. The network
    may add a tenth: it is trained on a thousandth of the noise there is.
    """
    assert callable(made)
    regressor = made()
    allowed = 3 * math.sqrt((D * 0.3 + D + 1 + 2 * K) / ROWS)
    if regressor is trained():
        allowed += 0.1
    stream = torch.Generator().manual_seed(3)
    for time in (0.2, 0.5, 0.8):
        x, y = rows(400, seed=4)
        t = torch.full((400,), time)
        x = time * x + (1 - time) * torch.randn(x.shape, generator=stream)
        known = torch.ones(400, K, dtype=torch.bool)
        state = x.clone().requires_grad_()
        likelihood = Request(regressor, y, known).on_straight_path(state, t)
        (found,) = torch.autograd.grad(likelihood.sum(), state)
        expected = slope(x, t, y)
        error = (found - expected).square().mean().sqrt() / expected.square().mean().sqrt()
        assert float(error) < allowed


def test_its_likelihood_is_a_density_and_marginal_of_what_is_known() -> None:
    regressor = untrained(readout())
    x, y = rows(20, seed=5)
    tau = torch.linspace(0.1, 0.9, 20)
    mean, spread = (part.detach() for part in regressor.moments(x, tau))
    both, one, none = (
        torch.tensor(mask).expand(20, K) for mask in ([True, True], [False, True], [False, False])
    )
    found = regressor.log_likelihood(x, tau, y, both)
    law = torch.distributions.MultivariateNormal(mean, spread)
    assert found.detach().numpy() == pytest.approx(law.log_prob(y).numpy(), abs=1e-4)
    second = torch.distributions.Normal(mean[:, 1], spread[:, 1, 1].sqrt()).log_prob(y[:, 1])
    strange = torch.where(one, y, torch.nan)
    found = regressor.log_likelihood(x, tau, torch.nan_to_num(strange, nan=1e6), one)
    assert found.detach().numpy() == pytest.approx(second.numpy(), abs=1e-4)
    assert bool((regressor.log_likelihood(x, tau, y, none) == 0).all())
    # However much a network narrows it, some spread is left.
    assert float(spread.diagonal(dim1=1, dim2=2).min()) > LEAST_SPREAD**2


def test_it_learns_mean_and_spread_of_what_is_not_gaussian() -> None:
    """Of states ±1 the property is x_1 + e: mean tanh(α x/σ²), variance 1 − tanh² + Var e.

    The exact Gaussian has the mean α x and the variance σ² + Var e; most of what it misses is
    learned.
    """
    stream, other = torch.Generator().manual_seed(0), 0.3
    x = 2.0 * torch.randint(2, (4096, 1), generator=stream) - 1.0
    y = x + other * torch.randn(4096, 1, generator=stream)
    law = GaussianVelocity(torch.zeros(1), torch.eye(1), torch.ones(1), torch.ones(1))
    sizes = replace(SIZES, first_steps=300, rate=4e-3)
    first = untrained(GaussianReadout.fit(law, x, y, torch.ones(4096)), sizes)
    data = Rows(x, y.double().numpy(), np.full(4096, 1 / 4096), x[:0])
    new, loss = first.trained(data, run(sizes), sizes, Process("cosine").draw)
    assert math.isfinite(loss)
    for tau in (0.5, 0.6, 0.7):
        level = level_at(torch.full((2000,), tau))
        noise = torch.randn(2000, 1, generator=stream)
        state = noised(x[:2000], noise, level)
        mean = torch.tanh(level.signal[:, None] * state / level.noise[:, None].square())
        errors = []
        for regressor in (first, new):
            with torch.no_grad():
                found, spread = regressor.moments(state, torch.full((2000,), tau))
            variance = 1 - mean.square() + other**2
            errors += [(found - mean).square().mean().sqrt()]
            errors += [(spread[:, :, 0] - variance).square().mean().sqrt()]
        assert float(errors[2]) < 0.6 * float(errors[0])
        assert float(errors[3]) < 0.6 * float(errors[1])


# Guided samples


ASKED = torch.tensor([1.5, -1.0])


def posterior(known: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (d,) and covariance (d, d) of the states given those of ASKED that are known."""
    s, b = covariance().double(), MIXING.double()[known]
    gain = torch.linalg.solve(b @ s @ b.T + NOISE.double()[known][:, known], b @ s).T
    return LAW.mean + gain @ (ASKED[known] - b @ LAW.mean.double()), s - gain @ b @ s


def request(regressor: NoisyRegressor, n: int, known: Tensor) -> Request:
    return Request(regressor, ASKED.expand(n, K), known.expand(n, K))


def start() -> Tensor:
    """2 d points of mean 0 and covariance 1: an affine sampler shows its law on them exactly."""
    return torch.cat([torch.eye(D), -torch.eye(D)]) * D**0.5


def found_law(end: Tensor) -> tuple[np.ndarray, np.ndarray]:
    return end.mean(0).numpy(), torch.cov(end.T, correction=0).numpy()


# Three standard errors √((r + 1) R/n) of the regression are 0.03 at R = 0.3 where the request lies,
# within two standard deviations; the steps' own errors are below 0.01.
ALLOWED = 0.04


@pytest.mark.parametrize("known", [[True, True], [False, True]])
def test_a_led_velocity_samples_the_closed_form(known: list[bool]) -> None:
    mask = torch.tensor(known)
    led = led_velocity(LAW, request(untrained(readout()), 2 * D, mask), 1.0)
    mean, spread = posterior(mask)
    found = found_law(heun(led, start(), uniform_times(100)))
    assert found[0] == pytest.approx(mean.numpy(), abs=ALLOWED)
    assert found[1] == pytest.approx(spread.numpy(), abs=ALLOWED)


@pytest.mark.parametrize(
    ("process", "sampler"),
    [*((process, "dpm_solver_pp") for process in PATHS), ("cosine", "ddim"), ("ve", "heun")],
)
def test_a_led_prediction_samples_the_closed_form_of_every_process(
    process: str, sampler: str
) -> None:
    settings = DiffusionSettings(process=process, sampler=sampler, sample_steps=80)
    free = Prediction(lambda x, _: torch.zeros_like(x), LAW, "v", Process(process))
    everything = torch.ones(K, dtype=torch.bool)
    led = led_prediction(free, request(untrained(readout()), 2 * D, everything), 1.0)
    mean, spread = posterior(everything)
    found = found_law(draw_states(led, start(), settings))
    assert found[0] == pytest.approx(mean.numpy(), abs=ALLOWED)
    assert found[1] == pytest.approx(spread.numpy(), abs=ALLOWED)


def test_a_trained_regressor_leads_to_it_too() -> None:
    """Of 4,000 samples: five standard errors on top, and a tenth of the spread for the network."""
    n, everything = 4000, torch.ones(K, dtype=torch.bool)
    noise = torch.randn(n, D, generator=torch.Generator().manual_seed(6))
    led = led_velocity(LAW, request(trained(), n, everything), 1.0)
    with torch.no_grad():
        end = heun(led, noise, uniform_times(40))
    mean, spread = posterior(everything)
    deviation = spread.diagonal().sqrt()
    found = found_law(end)
    allowed = (5 / math.sqrt(n) + 0.1) * float(deviation.max())
    assert found[0] == pytest.approx(mean.numpy(), abs=allowed)
    allowed = (5 * math.sqrt(2 / n) + 0.1) * float(deviation.max()) ** 2
    assert found[1] == pytest.approx(spread.numpy(), abs=allowed)


def test_scale_zero_and_nothing_asked_are_the_unguided_ones() -> None:
    regressor, some = untrained(readout()), torch.tensor([True, False])
    nothing = torch.zeros(K, dtype=torch.bool)
    velocity: Velocity = LAW
    assert led_velocity(velocity, request(regressor, 6, some), 0.0) is velocity
    assert led_velocity(velocity, request(regressor, 6, nothing), 2.0) is velocity
    free = Prediction(lambda x, _: torch.zeros_like(x), LAW, "v", Process("cosine"))
    assert led_prediction(free, request(regressor, 6, some), 0.0) is free


def test_even_weights_count_every_row_alike() -> None:
    """Over many draws of which rows are kept, each of n has the expected weight 1."""
    n, kept, draws = 40, 9, 4000
    rng, total = np.random.default_rng(0), np.zeros(n)
    source = np.array([0, 1, 0, 1, 0, 1])
    for _ in range(draws):
        index = np.concatenate([np.arange(3), 3 + rng.permutation(n - 3)[:6]])
        np.add.at(total, np.concatenate([index, index[source]]), even_weights(n, kept, source))
    weight = (n - 3) / 6  # of a row kept by chance, with variance weight - 1
    scatter = 5 * math.sqrt((weight - 1) / draws)
    assert total / draws == pytest.approx(1.0, abs=scatter)
    assert even_weights(5, 5, np.zeros(0, dtype=np.intp)).tolist() == [1.0] * 5
