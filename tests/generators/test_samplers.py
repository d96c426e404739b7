"""Samplers and guidance on flows whose answer is known exactly."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from generators.dynamics import samplers
from generators.dynamics.flow import (
    Velocity,
    classifier_free,
    interpolate,
    interval,
    logit_normal_times,
    paired,
    target_velocity,
)
from generators.dynamics.samplers import ORDER, uniform_times
from loop.errors import InvalidInputError

Sampler = Callable[[Velocity, Tensor, Tensor], Tensor]
SAMPLERS: list[tuple[str, Sampler]] = [("euler", samplers.euler), ("heun", samplers.heun)]


def gaussian(mean: Tensor, covariance: Tensor) -> Velocity:
    """The marginal velocity E[x₁ − ε | x_t] for data N(m, S), by conditioning of Gaussians.

    x_t = (1 − t) ε + t x₁ has mean t m and covariance C = (1 − t)² I + t² S; the covariance of x₁
    with it is t S, that of ε is (1 − t) I.
    """
    eye = torch.eye(len(mean), dtype=mean.dtype)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        s = float(t[0])
        c = (1 - s) ** 2 * eye + s**2 * covariance
        whitened = torch.linalg.solve(c, (x - s * mean).T).T
        return mean + s * whitened @ covariance - (1 - s) * whitened

    return velocity


MEAN = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)
ROOT = torch.tensor([[0.5, 0.1, 0.0], [0.1, 1.2, -0.3], [0.0, -0.3, 0.8]], dtype=torch.float64)
NOISE = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_the_path_joins_noise_and_data_at_the_target_velocity() -> None:
    data, noise = torch.randn(2, 5, 4, dtype=torch.float64, generator=torch.Generator())
    assert torch.equal(interpolate(data, noise, torch.zeros(5, dtype=torch.float64)), noise)
    assert torch.equal(interpolate(data, noise, torch.ones(5, dtype=torch.float64)), data)
    t = torch.linspace(0.1, 0.8, 5, dtype=torch.float64)
    moved = interpolate(data, noise, t + 0.1) - interpolate(data, noise, t)
    assert torch.allclose(moved / 0.1, target_velocity(data, noise), atol=1e-12)


@pytest.mark.parametrize(("name", "sampler"), SAMPLERS)
def test_declared_order(name: str, sampler: Sampler) -> None:
    """Log error against log step on the flow of a correlated Gaussian, x₁ = m + S^½ x₀."""
    velocity, exact = gaussian(MEAN, ROOT @ ROOT), MEAN + NOISE @ ROOT
    steps = [16, 32, 64, 128, 256]
    errors = [
        float((sampler(velocity, NOISE, uniform_times(n).double()) - exact).abs().max())
        for n in steps
    ]
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(ORDER[name], abs=0.15)
    assert errors[-1] < 0.05


@pytest.mark.parametrize(("name", "sampler"), SAMPLERS)
@given(times=st.lists(st.floats(0.01, 0.99), min_size=1, max_size=6, unique=True))
def test_polynomials_in_time_up_to_the_order_are_exact(
    name: str, sampler: Sampler, times: list[float]
) -> None:
    """On any grid of times: dx/dt = t^(k−1) ends at 1/k for every k up to the order."""
    grid = torch.tensor([0.0, *sorted(times), 1.0], dtype=torch.float64)
    for k in range(1, ORDER[name] + 1):

        def power(x: Tensor, t: Tensor, k: int = k) -> Tensor:
            return t[:, None] ** (k - 1) + 0 * x

        end = sampler(power, torch.zeros(2, 1, dtype=torch.float64), grid)
        assert end.numpy() == pytest.approx(np.full((2, 1), 1 / k), abs=1e-12)


@pytest.mark.parametrize("sampler", [sampler for _, sampler in SAMPLERS])
def test_samplers_change_nothing_they_are_given(sampler: Sampler) -> None:
    start, times = NOISE.clone(), uniform_times(4).double()
    sampler(gaussian(MEAN, ROOT @ ROOT), start, times)
    assert torch.equal(start, NOISE)
    assert torch.equal(times, uniform_times(4).double())


def test_samples_have_the_mean_and_covariance_of_the_data() -> None:
    """n samples: a mean has standard error s/√n, a variance s²√(2/n); five are allowed."""
    n = 4000
    noise = torch.randn(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    end = samplers.heun(gaussian(MEAN, ROOT @ ROOT), noise, uniform_times(40).double()).numpy()
    covariance = (ROOT @ ROOT).numpy()
    scale = np.sqrt(np.diag(covariance))
    assert np.all(np.abs(end.mean(0) - MEAN.numpy()) < 5 * scale / math.sqrt(n))
    error = np.abs(np.cov(end.T) - covariance) / np.outer(scale, scale)
    assert np.all(error < 5 * math.sqrt(2 / n))


def test_times_are_drawn_from_the_logit_normal() -> None:
    """Kolmogorov–Smirnov at a level of 1e-4 with n = 20,000."""
    n = 20_000
    t = logit_normal_times(n, generator=torch.Generator().manual_seed(2), mean=0.3, scale=0.8)
    assert bool(((t > 0) & (t < 1)).all())
    logit = np.log(t.numpy()) - np.log1p(-t.numpy())
    found = stats.kstest((logit - 0.3) / 0.8, "norm")
    assert found.pvalue > 1e-4


def test_pairing_makes_the_least_transport_cost_of_a_batch() -> None:
    """Against every permutation of five; the noise stays the same set of rows."""
    data, noise = torch.randn(2, 5, 2, 3, generator=torch.Generator().manual_seed(4))
    found = paired(data, noise)

    def cost(order: Tensor) -> float:
        return float((data - order).square().sum())

    every = [cost(noise[list(order)]) for order in itertools.permutations(range(5))]
    assert cost(found) == pytest.approx(min(every), rel=1e-6)
    assert {tuple(row.flatten().tolist()) for row in found} == {
        tuple(row.flatten().tolist()) for row in noise
    }


def test_pairing_of_unequal_batches_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="equal shapes"):
        paired(torch.zeros(3, 2), torch.zeros(4, 2))


def test_paths_of_images_are_those_of_their_rows() -> None:
    data, noise = torch.randn(2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(5))
    t = torch.tensor([0.1, 0.5, 0.9])
    flat = interpolate(data.flatten(1), noise.flatten(1), t)
    assert torch.equal(interpolate(data, noise, t).flatten(1), flat)


# Guidance


class Counted:
    """A velocity that counts its evaluations."""

    def __init__(self, velocity: Velocity) -> None:
        self.velocity = velocity
        self.calls = 0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        return self.velocity(x, t)


PLAIN = gaussian(MEAN, ROOT @ ROOT)
CONDITIONAL = gaussian(MEAN + 1.5, ROOT @ ROOT)


@pytest.mark.parametrize(
    ("scale", "calls"), [(0.0, (1, 0)), (1.0, (0, 1)), (0.5, (1, 1)), (3.0, (1, 1))]
)
def test_guidance_is_two_separate_passes(scale: float, calls: tuple[int, int]) -> None:
    plain, conditional = Counted(PLAIN), Counted(CONDITIONAL)
    t = torch.full((6,), 0.4, dtype=torch.float64)
    found = classifier_free(plain, conditional, scale)(NOISE, t)
    assert (plain.calls, conditional.calls) == calls
    base, conditioned = PLAIN(NOISE, t), CONDITIONAL(NOISE, t)
    assert torch.allclose(found, base + scale * (conditioned - base), atol=1e-14)
    if scale in (0.0, 1.0):
        assert torch.equal(found, (base, conditioned)[int(scale)])


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 2.0, 3.0])
def test_guided_gaussian_has_its_exact_mean_and_the_same_covariance(scale: float) -> None:
    """Of two Gaussians of equal covariance: mean µ_∅ + s (µ_c − µ_∅), covariance unchanged."""
    velocity = classifier_free(PLAIN, CONDITIONAL, scale)
    end = samplers.heun(velocity, NOISE, uniform_times(400).double())
    exact = MEAN + scale * 1.5 + NOISE @ ROOT
    assert end.numpy() == pytest.approx(exact.numpy(), abs=2e-3)


def test_guidance_in_an_interval() -> None:
    limited = interval(CONDITIONAL, PLAIN, 0.3, 0.6)
    for time in (0.1, 0.29, 0.3, 0.45, 0.6, 0.61, 1.0):
        t = torch.full((6,), time, dtype=torch.float64)
        expected = CONDITIONAL if 0.3 <= time <= 0.6 else PLAIN
        assert torch.equal(limited(NOISE, t), expected(NOISE, t))


def test_fresh_noise_on_the_straight_path_has_weak_order_one() -> None:
    """Of N(m, s²): the mean is met, and the variance's error halves with the steps."""
    n, m, s = 400_000, 1.5, 0.6
    velocity = gaussian(torch.tensor([m]), torch.tensor([[s * s]]))
    noise = torch.randn(n, 1, generator=torch.Generator().manual_seed(0))
    errors = []
    for steps in (8, 16, 32):
        found = samplers.ancestral(velocity, noise, steps)
        assert float(found.mean()) == pytest.approx(m, abs=4 * s / n**0.5)
        errors.append(float(found.var()) - s * s)
    scatter = 4 * s * s * (2 / n) ** 0.5  # of a variance: four standard deviations
    for coarse, fine in itertools.pairwise(errors):
        # What is left of second order is a fifth of the error of the coarser one at most.
        assert coarse / 2 - fine == pytest.approx(0.0, abs=1.5 * scatter + 0.2 * abs(coarse))
    assert abs(errors[0]) > 8 * scatter


def test_one_noise_gives_one_sample() -> None:
    velocity = gaussian(MEAN.float(), (ROOT @ ROOT).float())
    noise = NOISE.float()
    found = [samplers.ancestral(velocity, x, 6) for x in (noise, noise.clone(), noise + 0.1)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
