"""Guidance on Gaussians, where what it does to the samples is known exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from generators.dynamics import flow, schedules
from generators.dynamics.guidance import (
    Weight,
    classifier_free,
    compose,
    cosine_scale,
    guided_by,
    guided_by_noisy,
    linear_scale,
    noise_share,
    separately,
    together,
)
from generators.dynamics.parameterisation import Field, Kind, denoiser_of, field_of
from generators.dynamics.samplers import ddim, ddpm, dpm_solver_pp, heun, uniform_times
from generators.dynamics.schedules import EDM, VE, VP, Path, Straight, rho_sigmas
from loop.errors import InvalidInputError
from tests.generators.gaussians import DOUBLE, Gaussian, law, numbers, scalar

X = torch.randn(6, 1, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
PLAIN, CONDITIONAL, OTHER = -0.5, 1.5, 4.0  # means
S2 = 0.49
PATH = schedules.linear()


def denoiser(mean: float, path: Path = PATH) -> Field:
    return scalar(mean, S2).denoiser(path)


def end_law(guided: Field, path: Path, times: Tensor) -> tuple[float, float]:
    """Exact mean and variance of the data that DPM-Solver++ makes of the noise of ``PLAIN``."""
    mean, variance = scalar(PLAIN, S2).marginal(path, float(times[0]))
    return law(lambda x, _: dpm_solver_pp(guided, x, path, times), 0, float(mean), float(variance))


# Classifier-free


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 2.0, 3.0])
def test_the_guided_gaussian_has_its_exact_mean_and_the_same_variance(scale: float) -> None:
    """µ_∅ + s (µ_c − µ_∅): the other convention, (1 + w) ε_c − w ε_∅, would be off by one in s."""
    path, times = EDM(), rho_sigmas(300, zero=True)
    guided = classifier_free(denoiser(PLAIN, path), denoiser(CONDITIONAL, path), scale)
    mean, variance = end_law(guided, path, times)
    exact = PLAIN + scale * (CONDITIONAL - PLAIN)
    # The start is noise of width 80 around the data: its mean is forgotten by s/80.
    assert mean == pytest.approx(exact, abs=0.01 * (1 + abs(exact)))
    assert variance == pytest.approx(S2, rel=0.005)


def test_two_conventions() -> None:
    """(1 + w) ε_c − w ε_∅ with w = s − 1, and classifier guidance with the same s."""
    w, t = 1.7, torch.full((6,), 400.0, dtype=DOUBLE)
    plain, conditional = (field_of(denoiser(m), "epsilon", PATH) for m in (PLAIN, CONDITIONAL))
    found = classifier_free(plain, conditional, 1 + w)(X, t)
    assert torch.allclose(found, (1 + w) * conditional(X, t) - w * plain(X, t), atol=1e-12)
    sigma = float(PATH.level(t[:1]).noise)
    score = [scalar(m, S2).score(PATH)(X, t) for m in (PLAIN, CONDITIONAL)]
    likelihood = score[1] - score[0]  # ∇ log p(c | x_t) by Bayes
    assert torch.allclose(found, plain(X, t) - (1 + w) * sigma * likelihood, atol=1e-10)


@pytest.mark.parametrize("kind", ["epsilon", "v", "score", "flow"])
def test_guidance_is_the_same_for_every_kind_of_prediction(kind: Kind) -> None:
    t = torch.full((6,), 300.0, dtype=DOUBLE)
    direct = classifier_free(denoiser(PLAIN), denoiser(CONDITIONAL), 2.5)(X, t)
    plain, conditional = (field_of(denoiser(m), kind, PATH) for m in (PLAIN, CONDITIONAL))
    converted = denoiser_of(classifier_free(plain, conditional, 2.5), kind, PATH)
    assert torch.allclose(converted(X, t), direct, atol=1e-9)


def test_flow_matching_offers_the_same_functions() -> None:
    assert flow.classifier_free is classifier_free


def test_composed_conditions_have_their_own_weights() -> None:
    """µ_∅ + Σ w_i (µ_i − µ_∅), a negative weight leading away; variance as it was."""
    path, times = EDM(), rho_sigmas(300, zero=True)
    fields = separately(*(denoiser(m, path) for m in (PLAIN, CONDITIONAL, OTHER)))
    for weights in ([1.0, 0.0], [0.0, 1.0], [2.0, 0.5], [1.5, -0.7]):
        mean, variance = end_law(compose(fields, weights), path, times)
        exact = PLAIN + weights[0] * (CONDITIONAL - PLAIN) + weights[1] * (OTHER - PLAIN)
        assert mean == pytest.approx(exact, abs=0.02 * (1 + abs(exact)))
        assert variance == pytest.approx(S2, rel=0.005)


def test_a_negative_condition_in_place_of_none() -> None:
    t = torch.full((6,), 300.0, dtype=DOUBLE)
    away = classifier_free(denoiser(OTHER), denoiser(CONDITIONAL), 2.0)(X, t)
    weights = compose(separately(denoiser(OTHER), denoiser(CONDITIONAL)), [2.0])(X, t)
    assert torch.equal(away, weights)
    assert bool((away < denoiser(CONDITIONAL)(X, t)).all())  # OTHER lies above


def test_weights_that_do_not_match_are_refused() -> None:
    fields = separately(denoiser(PLAIN), denoiser(CONDITIONAL))
    with pytest.raises(InvalidInputError, match="1 conditions with 2 weights"):
        compose(fields, [1.0, 2.0])(X, torch.full((6,), 3.0))
    with pytest.raises(InvalidInputError, match=r"rescale = 1\.5"):
        compose(fields, [1.0], rescale=1.5)


# One joint batch


class Network(nn.Module):
    """Rows of (b, c, h, w) under values and masks (b, k), group norm inside."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(2, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.condition = nn.Linear(7, 8)
        self.last = nn.Conv2d(8, 2, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        given = torch.cat([values * mask, mask.to(x), t[:, None]], dim=1)
        hidden = self.norm(self.first(x)) * self.condition(given)[:, :, None, None]
        return self.last(torch.tanh(hidden))


def conditions(rows: int) -> list[Sequence[Tensor]]:
    """None, and two different ones: values and mask."""
    draws = torch.Generator().manual_seed(1)
    values = torch.randn(3, rows, 3, generator=draws)
    masks = torch.tensor([[False] * 3, [True, True, False], [False, True, True]])
    return [(values[i], masks[i].expand(rows, 3)) for i in range(3)]


@torch.no_grad()
def test_one_joint_batch_equals_separate_passes() -> None:
    network, x = Network(), torch.randn(5, 2, 6, 6, generator=torch.Generator().manual_seed(2))
    t, given = torch.linspace(0.1, 0.9, 5), conditions(5)

    def under(condition: Sequence[Tensor]) -> Field:
        return lambda y, s: network(y, s, *condition)

    apart = separately(*(under(c) for c in given))
    joint = together(network, *given)
    # float32: rows of another batch size may be summed in another order
    for one, other in zip(joint(x, t), apart(x, t), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    found = compose(joint, [2.0, -0.5])(x, t)
    assert torch.allclose(found, compose(apart, [2.0, -0.5])(x, t), atol=1e-5)
    base, conditional, _ = apart(x, t)
    assert float((conditional - base).abs().max()) > 0.01  # the null differs from a condition


def test_a_joint_batch_is_one_evaluation() -> None:
    sizes: list[int] = []

    def network(x: Tensor, _t: Tensor, values: Tensor) -> Tensor:
        sizes.append(len(x))
        return x + values

    given = [(torch.zeros(6, 1),), (torch.ones(6, 1),)]
    guided = compose(together(network, *given), [3.0])
    found = guided(X, torch.zeros(6, dtype=DOUBLE))
    assert sizes == [12]
    assert torch.allclose(found, X + 3)


# Rescale, intervals and schedules


def test_rescaled_guidance_has_the_spread_of_the_conditional() -> None:
    base, conditional = torch.randn(2, 4, 3, 5, 5, generator=torch.Generator().manual_seed(3))
    fields, t = separately(lambda *_: base, lambda *_: conditional), torch.zeros(4)
    plain = compose(fields, [7.0])(base, t)
    spread = plain.flatten(1).std(1)
    wanted = conditional.flatten(1).std(1)
    assert bool((spread > 3 * wanted).all())
    full = compose(fields, [7.0], rescale=1.0)(base, t)
    assert torch.allclose(full.flatten(1).std(1), wanted, rtol=1e-5)
    direction = full / plain
    assert torch.allclose(direction, direction[:, :1, :1, :1].expand_as(direction), rtol=1e-4)
    part = compose(fields, [7.0], rescale=0.7)(base, t)
    assert torch.allclose(part, 0.7 * full + 0.3 * plain, rtol=1e-4, atol=1e-6)
    one = classifier_free(lambda *_: base, lambda *_: conditional, 2.0, rescale=0.7)(base, t)
    assert torch.equal(one, compose(fields, [2.0], rescale=0.7)(base, t))


def test_rescale_of_a_constant_prediction_is_finite() -> None:
    ones = torch.ones(2, 3)
    fields = separately(lambda *_: ones, lambda *_: 2 * ones)
    assert bool(torch.isfinite(compose(fields, [3.0], rescale=0.5)(ones, torch.zeros(2))).all())


@pytest.mark.parametrize("make", [cosine_scale, linear_scale])
@pytest.mark.parametrize(
    ("path", "noisy", "clean"), [(PATH, 1000.0, 0.0), (Straight(), 0.0, 1.0), (EDM(), 1e9, 0.0)]
)
def test_scheduled_guidance_is_strong_at_high_noise(
    make: Callable[[Path, float, float], Weight], path: Path, noisy: float, clean: float
) -> None:
    scale = make(path, 1.0, 6.0)
    assert callable(scale)
    assert float(scale(numbers(noisy))) == pytest.approx(6.0, rel=0.01)
    assert float(scale(numbers(clean))) == pytest.approx(1.0, abs=1e-12)
    middle = noisy + (clean - noisy) * torch.linspace(0, 1, 20).double()
    if path is not PATH:
        middle = middle[:-1]
    values = scale(middle.round() if path is PATH else middle)
    assert bool((values.diff() <= 1e-12).all())


def test_the_noise_share_of_the_straight_path() -> None:
    t = torch.linspace(0, 1, 9, dtype=DOUBLE)
    assert torch.allclose(noise_share(Straight().level(t)), 1 - t, atol=1e-15)


def test_a_constant_schedule_is_a_constant() -> None:
    t = torch.full((6,), 300.0, dtype=DOUBLE)
    plain, conditional = denoiser(PLAIN), denoiser(CONDITIONAL)
    scheduled = classifier_free(plain, conditional, linear_scale(PATH, 2.5, 2.5))
    assert torch.allclose(scheduled(X, t), classifier_free(plain, conditional, 2.5)(X, t))


def test_rows_at_different_times_have_their_own_scale() -> None:
    base, conditional = torch.zeros(3, 2, 2), torch.ones(3, 2, 2)
    guided = classifier_free(lambda *_: base, lambda *_: conditional, lambda t: 10 * t)
    found = guided(base, numbers(0.1, 0.5, 0.9).float())
    assert found[:, 0, 0].tolist() == pytest.approx([1.0, 5.0, 9.0])


# By a likelihood


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("path", [PATH, EDM()])
def test_a_linear_energy_tilts_a_gaussian_exactly(path: Path, scale: float) -> None:
    """N(m, s²) times exp(s c x) is N(m + s c s², s²): the mean by the exact law, ancestrally.

    The log-likelihood is linear in x_0, so that E[p | x_t] ∝ p(x̂_0): no approximation. The
    variance is to the last digit that of the sampler without guidance.
    """
    m, s2, c = 2.0, 0.25, 1.5
    plain = scalar(m, s2).denoiser(path)
    guided = guided_by(plain, lambda x0: (c * x0).sum(1), scale, path)
    times = rho_sigmas(300, zero=True) if path == EDM() else PATH.times(300)
    start = 6400.0 if path == EDM() else 1.0
    found = law(lambda x, z: ddpm(guided, x, path, times, noise=z), 299, 0.0, start)
    expected = law(lambda x, z: ddpm(plain, x, path, times, noise=z), 299, 0.0, start)
    assert found[0] == pytest.approx(m + scale * c * s2, abs=0.02)
    assert found[1] == pytest.approx(expected[1], rel=1e-6)


def test_a_measurement_gives_the_posterior_of_a_gaussian() -> None:
    """y = A x_0 + τ n with the exact p(y | x_t): the samples are N of the textbook posterior."""
    m, covariance = numbers(1.0, -1.0), torch.tensor([[1.0, 0.6], [0.6, 0.8]]).double()
    a, y, tau2 = numbers(1.0, 0.5), 2.0, 0.1
    data, path = Gaussian(m, covariance), Straight()

    def likelihood(x: Tensor, t: Tensor) -> Tensor:
        """log N(y; A x̂_0, τ² + A V Aᵀ), V the covariance of x_0 given x_t."""
        level = path.level(t[:1])
        _, marginal = data.marginal(path, float(t[0]))
        gain = float(level.signal) * covariance
        left = covariance - gain @ torch.linalg.solve(marginal, gain)
        return -((y - data.denoiser(path)(x, t) @ a) ** 2) / (2 * (tau2 + a @ left @ a))

    guided = guided_by_noisy(data.denoiser(path), likelihood, 1.0, path)
    gain = covariance @ a / (a @ covariance @ a + tau2)
    exact_mean = m + gain * (y - m @ a)
    exact = covariance - torch.outer(gain, a @ covariance)
    times = torch.linspace(0.001, 1.0, 401, dtype=DOUBLE)
    start = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]).double() * 2**0.5
    end = ddim(guided, start, path, times)
    assert end.mean(0).numpy() == pytest.approx(exact_mean.numpy(), abs=0.02)
    assert torch.cov(end.T, correction=0).numpy() == pytest.approx(exact.numpy(), abs=0.02)


def test_guidance_shifts_noise_as_classifier_guidance_prints_it() -> None:
    """ε − s √(1 − ᾱ) ∇ log p(y | x_t)."""
    t = torch.full((6,), 400.0, dtype=DOUBLE)
    guided = guided_by_noisy(denoiser(PLAIN), lambda x, _: x.sin().sum(1), 3.0, PATH)
    found = field_of(guided, "epsilon", PATH)(X, t)
    plain = field_of(denoiser(PLAIN), "epsilon", PATH)(X, t)
    sigma = float(PATH.level(t[:1]).noise)
    assert torch.allclose(found, plain - 3 * sigma * X.cos(), atol=1e-10)


def test_guidance_differentiates_through_the_network() -> None:
    """∇_x log p(x̂_0(x)) against central differences, also inside no_grad."""
    t, h = torch.full((6,), 400.0, dtype=DOUBLE), 1e-6
    wide = scalar(0.3, 2.0).denoiser(PATH)

    def network(x: Tensor, s: Tensor) -> Tensor:
        return wide(x, s).tanh()

    def energy(x0: Tensor) -> Tensor:
        return -(x0**2).flatten(1).sum(1)

    with torch.no_grad():
        found = guided_by(network, energy, 1.0, PATH)(X, t) - network(X, t)
    slope = (energy(network(X + h, t)) - energy(network(X - h, t)))[:, None] / (2 * h)
    signal, noise = PATH.level(t).like(X)
    assert found.numpy() == pytest.approx((noise**2 / signal * slope).numpy(), abs=1e-7)
    assert not found.requires_grad


@pytest.mark.parametrize("kind", ["epsilon", "v", "score", "flow"])
def test_guidance_by_a_likelihood_is_the_same_for_every_kind(kind: Kind) -> None:
    t = torch.full((6,), 300.0, dtype=DOUBLE)

    def energy(x0: Tensor) -> Tensor:
        return x0.sin().sum(1)

    def noisy(x: Tensor, s: Tensor) -> Tensor:
        return (x * s[:, None] / 100).cos().sum(1)

    field = field_of(denoiser(PLAIN), kind, PATH)
    for found, direct in (
        (guided_by(field, energy, 2.0, PATH, kind), guided_by(denoiser(PLAIN), energy, 2.0, PATH)),
        (
            guided_by_noisy(field, noisy, 2.0, PATH, kind),
            guided_by_noisy(denoiser(PLAIN), noisy, 2.0, PATH),
        ),
    ):
        assert torch.allclose(denoiser_of(found, kind, PATH)(X, t), direct(X, t), atol=1e-9)


def test_a_mean_is_not_guided() -> None:
    with pytest.raises(InvalidInputError, match="give a field of 'x0'"):
        guided_by_noisy(denoiser(PLAIN), lambda x, _: x.sum(1), 1.0, PATH, "mean")(
            X, torch.full((6,), 300.0)
        )


def test_a_guided_velocity_runs_from_pure_noise_to_clean_data() -> None:
    """Flow matching, Heun on all of [0, 1]: the tilted Gaussian N(m + c s², s²)."""
    m, s2, c = 2.0, 0.25, 1.5

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        t = t[:, None]
        return m + (t * s2 - (1 - t)) / (t**2 * s2 + (1 - t) ** 2) * (x - t * m)

    guided = guided_by(velocity, lambda x0: (c * x0).sum(1), 1.0, Straight(), "flow")
    start = numbers(-1.0, 1.0)[:, None]
    ends = [heun(guided, start, uniform_times(n).double()) for n in (100, 200, 400)]
    errors = [abs(float(end.mean()) - (m + c * s2)) for end in ends]
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < 0.002
    assert float(ends[2].std(correction=0)) == pytest.approx(math.sqrt(s2), abs=1e-3)


@pytest.mark.parametrize("path", [Straight(), VP(), VE()])
def test_guided_fields_are_finite_at_both_ends(path: Path) -> None:
    images = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(5))
    guided = guided_by(lambda x, _: x / 2, lambda x0: -x0.square().sum((1, 2, 3)), 1.0, path)
    for t in (0.0, 1.0):
        found = guided(images, torch.full((3,), t))
        assert found.shape == images.shape
        assert bool(torch.isfinite(found).all())


def test_adherence_rises_with_the_scale() -> None:
    """The mean distance to the target falls, for a quadratic energy too."""
    path, target, ends = Straight(), 3.0, []
    for scale in (0.0, 0.5, 1.0, 4.0):
        guided = guided_by(
            scalar(PLAIN, S2).denoiser(path), lambda x0: -((x0 - target) ** 2).sum(1), scale, path
        )
        velocity = field_of(guided, "flow", path)
        end = heun(velocity, X, 0.995 * uniform_times(60).double())
        ends.append(float((end - target).abs().mean()))
    assert np.all(np.diff(ends) < 0)
    assert math.isfinite(ends[-1])
