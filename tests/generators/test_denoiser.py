"""One prediction, seen as denoiser, score and velocity, and sampled: exact on Gaussian data."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from generators.denoiser import LEAST_SIGNAL, Prediction, linear_prediction
from generators.diffusion import draw_states
from generators.dynamics.flow import interpolate
from generators.dynamics.gaussian import GaussianVelocity
from generators.dynamics.guidance import classifier_free
from generators.dynamics.likelihood import flow_log_likelihood
from generators.dynamics.parameterisation import Field, Kind, convert, regression_target
from generators.dynamics.schedules import EDM, Level
from generators.processes import PATHS, Process, level_at, straight_time
from generators.training.denoising import (
    OF_SDE,
    PREDICTIONS,
    SAMPLERS,
    DiffusionSettings,
    check_diffusion,
)
from loop.errors import InvalidCampaignError
from tests.generators.gaussians import DOUBLE, Gaussian, numbers

MEAN = numbers(2.0, -1.0, 0.5)
ROOT = torch.tensor([[0.8, 0.0, 0.0], [0.3, 0.5, 0.0], [-0.2, 0.4, 0.3]], dtype=DOUBLE)
DATA = Gaussian(MEAN, ROOT @ ROOT.T)
DRAWN = ("ddpm", "langevin", *OF_SDE)  # samplers with a noise of their own
DRAWS = 4000
M, S2 = 2.0, 0.25


def velocity_of(data: Gaussian) -> GaussianVelocity:
    values, axes = torch.linalg.eigh(data.covariance)
    return GaussianVelocity(data.mean, axes, values, values[:1])


def nothing(x: Tensor, _: Tensor) -> Tensor:
    return torch.zeros_like(x)


def exact_rest(kind: Kind) -> Field:
    """What N(0, 1) leaves over of the exact prediction of ``DATA``."""
    unit = velocity_of(Gaussian(torch.zeros(3, dtype=DOUBLE), torch.eye(3, dtype=DOUBLE)))
    right = velocity_of(DATA)

    def rest(x: Tensor, tau: Tensor) -> Tensor:
        level = level_at(tau)
        return linear_prediction(right, x, level, kind) - linear_prediction(unit, x, level, kind)

    return rest


def predictions(kind: Kind, process: str) -> list[Prediction]:
    """Exact for ``DATA``: by the linear part alone, and by the network's part."""
    unit = velocity_of(Gaussian(torch.zeros(3, dtype=DOUBLE), torch.eye(3, dtype=DOUBLE)))
    found = Process(process)
    return [
        Prediction(nothing, velocity_of(DATA), kind, found),
        Prediction(exact_rest(kind), unit, kind, found),
    ]


def states(n: int = 6) -> Tensor:
    return 2 * torch.randn(n, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("process", PATHS)
@pytest.mark.parametrize("kind", PREDICTIONS)
def test_every_kind_over_every_process_is_the_exact_denoiser(kind: Kind, process: str) -> None:
    path = PATHS[process]
    times = Process(process).times(5)[1:-1]  # where the ε network is asked at its own level
    x = states()
    for t in times:
        t = t.expand(len(x))
        expected = DATA.denoiser(path)(x, t)
        for prediction in predictions(kind, process):
            torch.testing.assert_close(prediction.denoiser()(x, t), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("process", PATHS)
@pytest.mark.parametrize("kind", PREDICTIONS)
def test_the_velocity_is_that_of_the_flow(kind: Kind, process: str) -> None:
    """The known velocity of Gaussian data on the straight path, ends included."""
    x = states()
    for prediction in predictions(kind, process):
        inside = (0.0, 0.05, 0.5, 0.9, 1.0) if prediction.rest is nothing else (0.05, 0.5, 0.9)
        for time in inside:
            t = torch.full((len(x),), time, dtype=DOUBLE)
            expected = velocity_of(DATA)(x, t)
            found = prediction.velocity()(x, t)
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_the_likelihood_of_gaussian_data_is_its_density(kind: Kind) -> None:
    """Through the linear part, which is exact at both ends: what is left is the solver's."""
    x = MEAN + 0.7 * states()
    prediction = predictions(kind, "cosine")[0]
    found = flow_log_likelihood(prediction.velocity(), x, tolerance=1e-8)
    law = torch.distributions.MultivariateNormal(DATA.mean, DATA.covariance)
    torch.testing.assert_close(found, law.log_prob(x), rtol=1e-6, atol=1e-6)


def test_outside_the_trained_levels_the_network_is_asked_at_the_nearest() -> None:
    asked: list[float] = []

    def network(x: Tensor, tau: Tensor) -> Tensor:
        asked.append(float(tau[0]))
        return torch.ones_like(x)

    for kind in PREDICTIONS:
        process = Process("linear")
        velocity = Prediction(network, velocity_of(DATA), kind, process).velocity()
        asked.clear()
        found = [velocity(states(), torch.full((6,), t, dtype=DOUBLE)) for t in (0.0, 0.3, 1.0)]
        assert all(bool(v.isfinite().all()) for v in found)
        first, last = process.span
        least = max(first, LEAST_SIGNAL) if kind == "epsilon" else first
        assert asked == pytest.approx([least, 0.3, last])


def test_guidance_of_the_network_is_guidance_of_the_velocity_and_the_score() -> None:
    """f_∅ + s (f_c − f_∅) for one kind of prediction is the same for any other."""
    process = Process("vp")
    linear = velocity_of(DATA)

    def shifted(by: float) -> Field:
        return lambda x, tau: by * torch.cos(x) * tau[:, None]

    base, conditional = shifted(0.1), shifted(-0.4)
    x, t = states(), torch.full((6,), 0.4, dtype=DOUBLE)
    for kind in PREDICTIONS:
        fields = [base, conditional, classifier_free(base, conditional, 2.5)]
        made = [Prediction(f, linear, kind, process) for f in fields]
        for view in ("velocity", "denoiser"):
            free, asked, guided = (getattr(p, view)()(x, t) for p in made)
            torch.testing.assert_close(guided, free + 2.5 * (asked - free), rtol=1e-9, atol=1e-9)


def test_the_target_less_the_linear_part_is_what_the_network_learns() -> None:
    """On average over data and noise at one level: zero where the linear part is exact."""
    stream = torch.Generator().manual_seed(3)
    n = 40_000
    data = MEAN + torch.randn(n, 3, dtype=DOUBLE, generator=stream) @ ROOT.T
    noise = torch.randn(n, 3, dtype=DOUBLE, generator=stream)
    level = Level(*(part.expand(n) for part in level_at(numbers(0.4))))
    x = level.signal[:, None] * data + level.noise[:, None] * noise
    for kind in PREDICTIONS:
        target = regression_target(data, noise, level, kind)
        rest = target - linear_prediction(velocity_of(DATA), x, level, kind)
        # Uncorrelated with every state, too: five standard errors.
        products = torch.cat([rest[:, :, None], rest[:, :, None] * x[:, None, :]], dim=2)
        error = products.std(0) / math.sqrt(n)
        assert bool((products.mean(0).abs() < 5 * error).all())
        back = convert(target, x, level, kind, "x0")
        torch.testing.assert_close(back, data)


def one_dimension(process: str) -> Prediction:
    linear = GaussianVelocity(numbers(M), numbers(1.0)[:, None], numbers(S2), numbers(S2))
    return Prediction(nothing, linear, "v", Process(process))


def fitting(sampler: str, process: str, steps: int) -> DiffusionSettings | None:
    settings = DiffusionSettings(process=process, sampler=sampler, sample_steps=steps)
    try:
        check_diffusion(settings)
    except InvalidCampaignError:
        return None
    return settings


@pytest.mark.parametrize(
    ("process", "sampler"), [(p, s) for p in PATHS for s in SAMPLERS if fitting(s, p, 20)]
)
def test_every_sampler_of_every_process_brings_noise_to_the_data(
    process: str, sampler: str
) -> None:
    """Mean and spread of N(2, 1/4) from standard noise, the better the more steps."""
    prediction = one_dimension(process)
    signal, sigma = (float(part) for part in prediction.process.noisiest)
    spread = math.sqrt(signal**2 * S2 + sigma**2)
    scale = math.hypot(signal, sigma)
    found = []
    for steps in (20, 80):
        settings = fitting(sampler, process, steps)
        assert settings is not None
        if sampler in DRAWN:
            noise = torch.randn(DRAWS, 1, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
            end = draw_states(prediction, noise, settings)
            found.append((float(end.mean()) - M, float(end.var()) / S2 - 1))
        else:  # affine: where 0 and 1 end says it all
            end = draw_states(prediction, numbers(0.0, 1.0)[:, None], settings)[:, 0]
            slope = math.sqrt(S2) / spread
            expected = M - slope * signal * M, slope * scale
            found.append((float(end[0]) - expected[0], float(end[1] - end[0]) - expected[1]))
    coarse, fine = (max(map(abs, errors)) for errors in found)
    if sampler in DRAWN:  # weak order 1, and four standard errors of a variance
        assert fine < 0.4 * coarse + 4 * math.sqrt(2 / DRAWS)
        assert fine < 0.2
    elif sampler in ("euler", "ddim"):
        assert 0.2 < fine / coarse < 0.3  # order 1
        assert fine < 0.02
    elif sampler in ("heun", "edm"):
        assert fine / coarse < 0.1  # order 2
        assert fine < 0.002
    else:  # "dpm_solver_pp" rounds the times of a discrete process, "adaptive" chooses its own
        assert fine < (1e-4 if sampler == "adaptive" else 0.005)


def test_churn_draws_and_keeps_the_law() -> None:
    """4,000 ends: mean and variance within four standard errors and the bias of 40 steps."""
    prediction = one_dimension("edm")
    noise = torch.randn(DRAWS, 1, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    plain, churned = (
        draw_states(
            prediction,
            noise,
            DiffusionSettings(process="edm", sampler="edm", churn=churn, sample_steps=40),
        )
        for churn in (0.0, 8.0)
    )
    assert float((plain - churned).abs().mean()) > 0.1  # what is drawn decides where it ends
    assert float(churned.mean()) == pytest.approx(M, abs=4 * math.sqrt(S2 / DRAWS) + 0.002)
    assert float(churned.var()) == pytest.approx(S2, rel=4 * math.sqrt(2 / DRAWS) + 0.02)


def test_ddim_with_noise_is_ddpm() -> None:
    prediction = one_dimension("cosine")
    noise = torch.randn(64, 1, dtype=DOUBLE, generator=torch.Generator().manual_seed(2))
    settings = DiffusionSettings(sampler="ddim", eta=1.0, sample_steps=50)
    ancestral = DiffusionSettings(sampler="ddpm", sample_steps=50)
    torch.testing.assert_close(
        draw_states(prediction, noise, settings), draw_states(prediction, noise, ancestral)
    )


def test_one_noise_gives_one_sample_and_another_another() -> None:
    prediction = one_dimension("vp")
    settings = DiffusionSettings(process="vp", sampler="ddpm", sample_steps=10)
    stream = torch.Generator().manual_seed(0)
    first, other = torch.randn(2, 16, 1, dtype=DOUBLE, generator=stream)
    assert torch.equal(*(draw_states(prediction, first, settings) for _ in range(2)))
    again = draw_states(prediction, first.clone(), settings)
    # What was drawn inside differs too, not the start alone.
    changed = first.clone()
    changed[0] = other[0]
    assert not torch.equal(draw_states(prediction, changed, settings)[1:], again[1:])


def test_the_scale_of_a_path_does_not_matter() -> None:
    """A denoiser of VE asked on the path of EDM: the same x_0 for the same noise."""
    prediction = predictions("x0", "ve")[1]
    x, sigma = states(), torch.full((6,), 0.7, dtype=DOUBLE)
    expected = DATA.denoiser(EDM())(x, sigma)
    torch.testing.assert_close(prediction.denoiser(EDM())(x, sigma), expected)
    # And the state of the straight path at the same ratio is the same x_0 again.
    tau = straight_time(Level(torch.ones_like(sigma), sigma))
    straight = x / (1 + sigma[:, None])
    flow = prediction.velocity()(straight, tau)
    torch.testing.assert_close(straight + (1 - tau[:, None]) * flow, expected)
    assert torch.equal(interpolate(x, x, tau), tau[:, None] * x + (1 - tau[:, None]) * x)
