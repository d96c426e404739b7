"""Guidance of the joint state over noise, and further conditions with weights of their own."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from generators.denoiser import Prediction
from generators.dynamics.flow import Velocity
from generators.dynamics.gaussian import GaussianVelocity
from generators.dynamics.parameterisation import Kind
from generators.dynamics.samplers import heun, uniform_times
from generators.dynamics.schedules import Level
from generators.flow import JointFlow
from generators.guiding import CONSTANT, Also, GuidingSettings, Rescaled, guide, rescaled_velocity
from generators.processes import Process, level_at
from generators.student import JointStudent, StudentSettings
from loop.candidate import Candidate
from loop.errors import InvalidCampaignError, InvalidInputError
from tests import libraries
from tests.generators import made

SPREAD = 0.7
FREE, ASKED, OTHER = 0.5, 2.0, -1.0  # means
TIMES = uniform_times(400).double()


def gaussian(mean: float, spread: float = SPREAD) -> Velocity:
    """N(mean, spread²) on the straight path: v = m + c_t (x - t m)."""

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        time = t[:, None]
        slope = (time * spread**2 - (1 - time)) / (time**2 * spread**2 + (1 - time) ** 2)
        return mean + slope * (x - time * mean)

    return velocity


def noise(n: int = 5, d: int = 1) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((n, d)))


def end(settings: GuidingSettings, guidance: float, *others: tuple[Velocity, float]) -> Tensor:
    field = guide(gaussian(FREE), gaussian(ASKED), guidance, others, settings)
    return heun(field, noise(), TIMES)


@pytest.mark.parametrize("guidance", [0.5, 1.0, 2.0])
def test_conditions_add_up_by_their_weights(guidance: float) -> None:
    """Of Gaussians of one spread: mean m + s (m_c - m) + w (m_i - m), the spread stays."""
    found = end(CONSTANT, guidance, (gaussian(OTHER), -0.6), (gaussian(ASKED), 0.25))
    mean = FREE + guidance * (ASKED - FREE) - 0.6 * (OTHER - FREE) + 0.25 * (ASKED - FREE)
    np.testing.assert_allclose(found, mean + SPREAD * noise(), atol=1e-4)


def test_without_guidance_nothing_leads() -> None:
    found = end(GuidingSettings("cosine", rescale=1.0), 0.0, (gaussian(OTHER), 3.0))
    assert torch.equal(found, heun(gaussian(FREE), noise(), TIMES))


SHAPES = {
    "constant": lambda t: 3.0 + 0 * t,
    "linear": lambda t: 0.5 + 2.5 * (1 - t),
    "cosine": lambda t: 0.5 + 2.5 * (1 - np.cos(np.pi * (1 - t))) / 2,
}


@pytest.mark.parametrize("schedule", list(SHAPES))
@pytest.mark.parametrize("within", [(0.0, 1.0), (0.3, 0.8)])
def test_a_schedule_moves_the_mean_as_the_linear_equation_says(
    schedule: str, within: tuple[float, float]
) -> None:
    """x' = c_t x + (1 - t c_t) m(t) has Φ(1, t) = σ_1/σ_t: the shift is an integral of s(t)."""
    least, most = within
    settings = GuidingSettings(schedule, at_data=0.5, least_noise=least, most_noise=most)

    def spread(t: float) -> float:
        return float(np.hypot(t * SPREAD, 1 - t))

    def rate(t: float) -> float:
        slope = (t * SPREAD**2 - (1 - t)) / spread(t) ** 2
        scale = SHAPES[schedule](t) if least <= 1 - t <= most else 1.0
        return SPREAD / spread(t) * (1 - t * slope) * float(scale)

    shift = quad(rate, 0, 1, points=[1 - most, 1 - least] if within != (0.0, 1.0) else None)[0]
    found = end(settings, 3.0)
    # Where the scale jumps one of the 400 steps is of first order.
    tolerance = 1e-4 if within == (0.0, 1.0) else 2 * 2.0 * 1.5 / 400
    expected = FREE + shift * (ASKED - FREE) + SPREAD * noise()
    np.testing.assert_allclose(found, expected, atol=tolerance)


# Rescaling


def estimate(velocity: Velocity, x: Tensor, t: Tensor) -> Tensor:
    return x + (1 - t[:, None]) * velocity(x, t)


def of_network(x: Tensor, t: Tensor) -> Tensor:
    return torch.sin(3 * x) * (1 - t[:, None])


def led(x: Tensor, t: Tensor) -> Tensor:
    return 4 * of_network(x, t) + 0.3 * x


LINEAR = GaussianVelocity.fit(noise(40, 6) * torch.arange(1.0, 7.0).double())


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_rescaled_estimates_have_the_spread_of_the_conditional(share: float) -> None:
    x = noise(7, 6)
    whole, conditional = (
        lambda x, t: LINEAR(x, t) + led(x, t),
        lambda x, t: LINEAR(x, t) + of_network(x, t),
    )
    for time in (0.05, 0.5, 0.99):
        t = torch.full((7,), time, dtype=torch.float64)
        found = estimate(rescaled_velocity(LINEAR, led, of_network, share), x, t)
        before, goal = estimate(whole, x, t), estimate(conditional, x, t)
        deviation = [part.std(1, correction=0) for part in (found, before, goal)]
        expected = share * deviation[2] + (1 - share) * deviation[1]
        np.testing.assert_allclose(deviation[0], expected, rtol=1e-10)
    last = torch.ones(7, dtype=torch.float64)
    exact = rescaled_velocity(LINEAR, led, of_network, 0.0)(x, last)
    np.testing.assert_allclose(exact, whole(x, last), atol=1e-9)


@pytest.mark.parametrize("process", ["cosine", "vp", "edm"])
@pytest.mark.parametrize("kind", ["epsilon", "x0", "v"])
def test_rescaled_predictions_of_any_process(process: str, kind: Kind) -> None:
    """Their estimates have the conditional's spread, and their velocity is that of the flow."""
    parts = LINEAR, kind, Process(process)
    guided = Rescaled(led, *parts, of_network, 1.0)
    plain = Prediction(of_network, *parts)
    x = noise(7, 6)
    for time in (0.2, 0.6, 0.9):
        tau = torch.full((7,), time, dtype=torch.float64)
        level = level_at(tau)
        found, goal = guided.at(x, level, "x0"), plain.at(x, level, "x0")
        np.testing.assert_allclose(
            found.std(1, correction=0), goal.std(1, correction=0), rtol=1e-10
        )
        straight = x * torch.hypot(tau, 1 - tau)[:, None]
        of_flow = estimate(guided.velocity(), straight, tau)
        np.testing.assert_allclose(of_flow, found, rtol=1e-8, atol=1e-8)
    ended = Level(torch.ones(7).double(), torch.zeros(7).double())
    assert bool(guided.at(x, ended, "flow").isfinite().all())


# In the generators


def untrained(name: str, kind: str, **more: Any) -> JointFlow:
    found = made.untrained(name, kind, vae={"steps": 30}, **more)
    assert isinstance(found, JointFlow)
    return found


@cache
def trained(name: str, kind: str) -> JointFlow:
    flow = untrained(name, kind)
    designs = flow.library.draw(40, rng=np.random.default_rng(0))
    return flow.fit(libraries.scored(designs), rng=np.random.default_rng(1))


def proposals(flow: JointFlow, guidance: float = 2.0) -> list[Candidate]:
    return flow.propose(6, flow.targets, guidance=guidance, rng=np.random.default_rng(2))


def row(flow: JointFlow, **values: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([values.get(k, np.nan) for k in flow.properties])


CASES = [("joint-flow", "image and compositions"), ("diffusion", "compositions")]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_generator_is_led_by_further_conditions(name: str, kind: str) -> None:
    flow = trained(name, kind)
    wanted, other = row(flow, density=8.1), row(flow, density=9.0)
    both = flow.with_also([Also(other, -0.7, "density=9"), Also(wanted, 0.4)])
    requests = np.tile(wanted, (5, 1))
    x = torch.from_numpy(np.random.default_rng(3).standard_normal((5, 1))).float()
    x = x.repeat(1, flow.trained_network().state_size)
    t = torch.full((5,), 0.4)
    with torch.no_grad():
        free, asked = (flow.velocity(requests, s)(x, t) for s in (0.0, 1.0))
        avoided = flow.velocity(np.tile(other, (5, 1)), 1.0)(x, t)
        expected = free + 2.4 * (asked - free) - 0.7 * (avoided - free)
        np.testing.assert_allclose(both.velocity(requests, 2.0)(x, t), expected, atol=2e-5)
        assert torch.equal(both.velocity(requests, 0.0)(x, t), free)
    assert both.also != flow.also == ()
    assert proposals(both) != proposals(flow)
    assert proposals(both, 0.0) == proposals(flow, 0.0)
    assert proposals(both.with_also([])) == proposals(flow)
    assert both.propose(1, flow.targets, guidance=2.0, rng=np.random.default_rng(0))[
        0
    ].origin.details["also"] == [
        {"condition": "density=9", "weight": -0.7},
        {"condition": "", "weight": 0.4},
    ]
    # They lead also where nothing else is asked.
    nothing = np.full((3, len(flow.properties)), np.nan)
    rng = np.random.default_rng
    led_alone = both.generate(nothing, guidance=2.0, rng=rng(4))
    assert led_alone != flow.generate(nothing, guidance=2.0, rng=rng(4))


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_settings_of_a_campaign_guide(name: str, kind: str) -> None:
    flow = trained(name, kind)

    def guiding(**settings: Any) -> JointFlow:
        new = untrained(name, kind, guiding=settings)
        new.__dict__ |= flow.__dict__ | {"settings": new.settings}
        return new

    requests = np.tile(row(flow, density=8.1), (5, 1))
    draw = np.random.default_rng(3).standard_normal((5, flow.trained_network().state_size))
    start = torch.from_numpy(draw).float()
    assert proposals(guiding()) == proposals(flow)
    with torch.no_grad():
        usual, free = (flow.sample(start, requests, s) for s in (2.0, 0.0))
        for settings in ({"schedule": "cosine"}, {"most_noise": 0.6}, {"rescale": 0.7}):
            found = guiding(**settings)
            assert not torch.equal(found.sample(start, requests, 2.0), usual)
            assert torch.equal(found.sample(start, requests, 0.0), free)
    # At scale 1 there is nothing to change; a rescaled estimate is the same but for rounding.
    for settings in ({"schedule": "linear"}, {"most_noise": 0.6}):
        assert proposals(guiding(**settings), 1.0) == proposals(flow, 1.0)


def test_what_does_not_go_together() -> None:
    flow = trained("joint-flow", "compositions")
    wanted = row(flow, density=8.1)
    with pytest.raises(InvalidInputError, match=r"has shape \(5,\); expected \(1,\)"):
        flow.with_also([Also(np.zeros(5), 1.0)])
    with pytest.raises(InvalidInputError, match="asks for nothing; leave it out"):
        flow.with_also([Also(np.full(1, np.nan), 1.0)])
    with pytest.raises(InvalidInputError, match="weight inf; expected a finite number"):
        flow.with_also([Also(wanted, np.inf)])
    with pytest.raises(InvalidInputError, match="leads to one request"):
        flow.with_also([Also(wanted, 1.0)]).guided_by("regressor")
    for settings, message in (
        ({"least_noise": 0.7, "most_noise": 0.2}, "the least first"),
        ({"most_noise": 1.2}, "shares of noise, 0 to 1"),
        ({"rescale": 2.0}, "rescale is 2; expected 0"),
        ({"schedule": "cosin"}, "expected constant or linear or cosine"),
    ):
        with pytest.raises(InvalidCampaignError, match=message):
            untrained("joint-flow", "compositions", guiding=settings)
    student = JointStudent.of(flow, StudentSettings(), "0" * 64)
    with pytest.raises(InvalidInputError, match="a student has learned one request at a time"):
        student.with_also([Also(wanted, 1.0)])
