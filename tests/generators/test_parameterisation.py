"""Kinds of predictions, conversions between them, posterior, Tweedie, weights and loss floors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from generators.dynamics import schedules
from generators.dynamics.flow import interpolate, target_velocity
from generators.dynamics.objectives import denoising_loss
from generators.dynamics.parameterisation import (
    KINDS,
    Kind,
    convert,
    denoiser_of,
    elbo_weight,
    field_of,
    min_snr_weight,
    noised,
    posterior,
    probability_flow,
    regression_target,
    tweedie,
)
from generators.dynamics.schedules import EDM, VP, Level, Straight
from loop.errors import InvalidInputError
from tests.generators.gaussians import numbers, scalar

X0, EPSILON = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)).double()
LINEAR = schedules.linear()
TRAINED: list[Kind] = ["x0", "epsilon", "v", "score", "flow"]


def exact(kind: Kind, level: Level, previous: Level) -> Tensor:
    """Every kind straight from x_0 and ε, as the papers print it."""
    a, s = level.like(X0)
    match kind:
        case "x0":
            return X0
        case "epsilon":
            return EPSILON
        case "v":
            return a * EPSILON - s * X0
        case "score":
            return -EPSILON / s
        case "flow":
            return X0 - EPSILON
        case "mean":  # the normal with the joint law of x_s and x_t, conditioned (Bayes)
            b, r = previous.like(X0)
            ratio = a / b
            gain = ratio * r**2 / s**2  # cov(x_s, x_t | x_0)/var(x_t | x_0)
            return b * X0 + gain * (s * EPSILON)


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("target", KINDS)
@given(u=st.floats(0.02, 0.98), step=st.floats(0.1, 0.9), norm=st.floats(0.2, 5.0))
def test_every_kind_becomes_every_other(
    source: Kind, target: Kind, u: float, step: float, norm: float
) -> None:
    """At any pair of levels, also where α² + σ² is not 1."""
    level = Level(numbers(norm * math.cos(u * math.pi / 2)), numbers(norm * math.sin(u * 1.57)))
    previous = Level(1.1 * level.signal, step * level.noise)
    x = noised(X0, EPSILON, level)
    value = exact(source, level, previous)
    found = convert(value, x, level, source, target, previous=previous)
    wanted = exact(target, level, previous)
    scale = float(wanted.abs().max()) + float(x.abs().max())
    assert found.numpy() == pytest.approx(wanted.numpy(), abs=1e-8 * scale)


def test_conversions_of_a_batch_with_a_level_a_row() -> None:
    level = LINEAR.level(torch.tensor([1, 10, 500, 1000]))
    previous = LINEAR.level(torch.tensor([0, 9, 499, 999]))
    x = noised(X0, EPSILON, level)
    for target in KINDS:
        found = convert(X0, x, level, "x0", target, previous=previous)
        wanted = exact(target, level, previous)
        assert found.numpy() == pytest.approx(wanted.numpy(), rel=1e-8, abs=1e-10)


def test_the_printed_formulas() -> None:
    t = torch.tensor([3, 40, 500, 990])
    level, previous = LINEAR.level(t), LINEAR.level(t - 1)
    x = noised(X0, EPSILON, level)
    bar, beta = LINEAR.alpha_bar[t][:, None], LINEAR.betas[t - 1][:, None]
    v = bar.sqrt() * EPSILON - (1 - bar).sqrt() * X0
    found = convert(v, x, level, "v", "x0")
    assert torch.allclose(found, bar.sqrt() * x - (1 - bar).sqrt() * v, atol=1e-12)
    found = convert(v, x, level, "v", "epsilon")
    assert torch.allclose(found, (1 - bar).sqrt() * x + bar.sqrt() * v, atol=1e-12)
    found = convert(EPSILON, x, level, "epsilon", "score")
    assert torch.allclose(found, -EPSILON / (1 - bar).sqrt(), atol=1e-12)
    mean = (x - beta / (1 - bar).sqrt() * EPSILON) / (1 - beta).sqrt()
    found = convert(EPSILON, x, level, "epsilon", "mean", previous=previous)
    assert torch.allclose(found, mean, atol=1e-10)


CLEAN, PURE = Level(numbers(1.0), numbers(0.0)), Level(numbers(0.0), numbers(1.0))
ENDS: list[tuple[Level, Kind, Kind, bool]] = [
    (CLEAN, "epsilon", "x0", True),
    (CLEAN, "score", "x0", True),
    (CLEAN, "v", "x0", True),
    (CLEAN, "v", "epsilon", True),
    (CLEAN, "flow", "epsilon", True),
    (CLEAN, "epsilon", "v", True),
    (CLEAN, "x0", "epsilon", False),
    (CLEAN, "x0", "v", False),
    (CLEAN, "x0", "score", False),
    (CLEAN, "epsilon", "score", False),
    (CLEAN, "x0", "flow", False),
    (PURE, "x0", "epsilon", True),
    (PURE, "x0", "v", True),
    (PURE, "x0", "score", True),
    (PURE, "v", "x0", True),
    (PURE, "flow", "x0", True),
    (PURE, "score", "epsilon", True),
    (PURE, "epsilon", "x0", False),
    (PURE, "score", "x0", False),
    (PURE, "epsilon", "v", False),
]


@pytest.mark.parametrize(("level", "source", "target", "determined"), ENDS)
def test_the_end_points(level: Level, source: Kind, target: Kind, determined: bool) -> None:
    """Exact where x and the prediction determine the answer, refused where they do not."""
    x = noised(X0, EPSILON, level)
    given = torch.zeros_like(X0) if source == "score" and level is CLEAN else None
    value = exact(source, level, level) if given is None else given
    if determined:
        found = convert(value, x, level, source, target)
        assert torch.equal(found, exact(target, level, level))
    else:
        with pytest.raises(InvalidInputError, match=f"{source!r} does not determine {target!r}"):
            convert(value, x, level, source, target)


def test_wrong_kinds_are_refused() -> None:
    level = LINEAR.level(numbers(5.0))
    with pytest.raises(InvalidInputError, match="did you mean 'epsilon'"):
        convert(X0, X0, level, "epsilom", "x0")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="previous="):
        convert(X0, X0, level, "x0", "mean")
    with pytest.raises(InvalidInputError, match="no loss weight for 'mean'"):
        min_snr_weight(level, "mean")


# The posterior


@pytest.mark.parametrize(
    ("t", "of_x0", "of_x", "variance"),
    [
        (2, 0.54529, 0.45471, 5.4532e-5),
        (100, 0.019076, 0.980896, 2.0346e-3),
        (1000, 1.2835e-4, 0.98995, 0.0199999836),
    ],
)
def test_posterior_weights_have_the_printed_figures(
    t: int, of_x0: float, of_x: float, variance: float
) -> None:
    found = [float(p) for p in posterior(*(LINEAR.level(numbers(s)) for s in (t, t - 1)))]
    assert found[0] == pytest.approx(of_x0, rel=3e-5)
    assert found[1] == pytest.approx(of_x, rel=1.1e-5)
    assert found[2] == pytest.approx(variance, rel=2e-5)


def test_the_last_step_is_the_data_and_has_no_noise() -> None:
    for schedule in (LINEAR, schedules.cosine(), schedules.sigmoid(10)):
        found = posterior(schedule.level(numbers(1.0)), schedule.level(numbers(0.0)))
        assert [float(part) for part in found] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(("t", "s"), [(2, 1), (700, 699), (1000, 500), (30, 3)])
def test_the_posterior_is_the_printed_one(t: int, s: int) -> None:
    """√ᾱ_s β/(1 − ᾱ_t), √α (1 − ᾱ_s)/(1 − ᾱ_t), β (1 − ᾱ_s)/(1 − ᾱ_t) with α = ᾱ_t/ᾱ_s."""
    bar, bar_s = float(LINEAR.alpha_bar[t]), float(LINEAR.alpha_bar[s])
    alpha = bar / bar_s
    beta = 1 - alpha
    expected = (
        math.sqrt(bar_s) * beta / (1 - bar),
        math.sqrt(alpha) * (1 - bar_s) / (1 - bar),
        beta * (1 - bar_s) / (1 - bar),
    )
    found = posterior(LINEAR.level(numbers(t)), LINEAR.level(numbers(s)))
    assert [float(part) for part in found] == pytest.approx(expected, rel=1e-10)


# Scores


def test_tweedie_is_the_posterior_mean() -> None:
    """Two-point data x_0 = ±1 with weights 0.3, 0.7: mean by Bayes, score by differentiation."""
    level = Level(numbers(0.8), numbers(0.6))
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None].requires_grad_(True)
    each = [
        torch.tensor(w).double().log() - (x - 0.8 * at) ** 2 / (2 * 0.36)
        for w, at in ((0.3, -1.0), (0.7, 1.0))
    ]
    density = torch.logaddexp(*each)
    (score,) = torch.autograd.grad(density.sum(), x)
    mean = (each[1] - density).exp() - (each[0] - density).exp()
    found = tweedie(x, score, level)
    assert found.detach().numpy() == pytest.approx(mean.detach().numpy(), abs=1e-12)


def test_networks_of_every_kind_are_the_same_denoiser() -> None:
    data, path = scalar(2.0, 0.25), VP()
    x, t = X0[:, :1], numbers(0.6, 0.6, 0.6, 0.6)
    denoise = data.denoiser(path)
    for kind in TRAINED:
        network = field_of(denoise, kind, path)
        assert torch.allclose(denoiser_of(network, kind, path)(x, t), denoise(x, t), atol=1e-11)
    assert torch.allclose(field_of(denoise, "score", path)(x, t), data.score(path)(x, t))


def test_the_probability_flow_has_the_velocity_of_the_exact_path() -> None:
    """On N(m, s²) it is x_t = a m + √(v_t/s²) (x_0 − m): its slope, by central differences."""
    data, t, h = scalar(2.0, 0.25), 0.4, 1e-6
    x0 = numbers(1.3, 2.0, 3.1)[:, None]
    for sde in (VP(1.0, 1.0), schedules.SubVP(), schedules.VE(), EDM()):
        start = 0.01

        def at(time: float, sde: schedules.SDE = sde, start: float = start) -> Tensor:
            return data.carried(sde, x0, start, time)

        slope = (at(t + h) - at(t - h)) / (2 * h)
        found = probability_flow(data.score(sde), sde)(at(t), torch.full((3,), t).double())
        assert found.numpy() == pytest.approx(slope.numpy(), rel=1e-6, abs=1e-6)


def test_the_flow_kind_is_the_velocity_of_flow_matching() -> None:
    t = numbers(0.1, 0.4, 0.6, 0.9)
    x = noised(X0, EPSILON, Straight().level(t))
    assert torch.allclose(x, interpolate(X0, EPSILON, t), atol=1e-15)
    found = convert(X0, x, Straight().level(t), "x0", "flow")
    assert torch.allclose(found, target_velocity(X0, EPSILON), atol=1e-12)


# Weights


def test_the_weight_of_the_exact_elbo() -> None:
    """½ (SNR_{t−1} − SNR_t) on x_0, β²/(2 σ̃² α (1 − ᾱ)) on ε, and the KL that they stand for."""
    t = torch.tensor([2, 3, 100, 1000])
    level, previous = LINEAR.level(t), LINEAR.level(t - 1)
    bar, before, beta = LINEAR.alpha_bar[t], LINEAR.alpha_bar[t - 1], LINEAR.betas[t - 1]
    tilde = beta * (1 - before) / (1 - bar)
    on_x0 = 0.5 * (before / (1 - before) - bar / (1 - bar))
    assert torch.allclose(elbo_weight(level, previous, "x0"), on_x0, rtol=1e-9)
    on_noise = beta**2 / (2 * tilde * (1 - beta) * (1 - bar))
    assert torch.allclose(elbo_weight(level, previous, "epsilon"), on_noise, rtol=1e-9)
    of_x0, _, variance = posterior(level, previous)
    assert torch.allclose(of_x0**2 / (2 * variance), on_x0, rtol=1e-9)


def test_weighted_losses_are_the_same_for_every_kind() -> None:
    t = torch.tensor([2, 50, 400, 1000])
    level, previous = LINEAR.level(t), LINEAR.level(t - 1)
    x, wrong = noised(X0, EPSILON, level), X0 + 0.3
    for weight in (
        lambda kind: elbo_weight(level, previous, kind),
        lambda kind: min_snr_weight(level, kind),
    ):
        expected = weight("x0") * (wrong - X0).square().sum(1)
        for kind in TRAINED:
            error = convert(wrong, x, level, "x0", kind) - convert(X0, x, level, "x0", kind)
            assert torch.allclose(weight(kind) * error.square().sum(1), expected, rtol=1e-8)


def test_the_step_to_data_has_no_weight() -> None:
    with pytest.raises(InvalidInputError, match="from 2 on"):
        elbo_weight(LINEAR.level(numbers(1.0)), LINEAR.level(numbers(0.0)), "epsilon")


def test_min_snr_weights() -> None:
    level = LINEAR.level(torch.tensor([1, 50, 200, 1000]))
    snr = level.snr
    least = torch.minimum(snr, torch.tensor(5.0).double())
    assert torch.allclose(min_snr_weight(level, "x0"), least)
    assert torch.allclose(min_snr_weight(level, "epsilon"), least / snr)
    assert torch.allclose(min_snr_weight(level, "v"), least / (snr + 1))
    assert float(min_snr_weight(CLEAN, "epsilon")) == 0
    assert float(min_snr_weight(PURE, "epsilon")) == 1
    assert float(min_snr_weight(CLEAN, "x0")) == 5


# Losses


def sigma_points() -> tuple[Tensor, Tensor]:
    """Four points (x_0 − m, ε) in units of their deviations: exact for quadratics in both."""
    corners = torch.tensor([[1, 0], [-1, 0], [0, 1], [0, -1]]).double() * math.sqrt(2)
    return corners[:, :1], corners[:, 1:]


@pytest.mark.parametrize("t", [1, 10, 300, 1000])
@pytest.mark.parametrize(("m", "s2"), [(0.0, 0.25), (2.0, 1.0), (-1.0, 4.0)])
def test_the_floor_of_the_simple_loss(t: int, m: float, s2: float) -> None:
    """d ᾱ s²/v_t with the optimal ε*, d = 1; any other prediction is worse."""
    z0, epsilon = sigma_points()
    x0, times = m + math.sqrt(s2) * z0, torch.full((4,), t)
    bar = float(LINEAR.alpha_bar[t])
    v = bar * s2 + 1 - bar

    def optimal(x: Tensor, _t: Tensor) -> Tensor:
        return math.sqrt(1 - bar) * (x - math.sqrt(bar) * m) / v

    found = float(denoising_loss(optimal, "epsilon", LINEAR, x0, times, epsilon).mean())
    assert found == pytest.approx(bar * s2 / v, rel=1e-10)
    network = field_of(scalar(m, s2).denoiser(LINEAR), "epsilon", LINEAR)
    same = float(denoising_loss(network, "epsilon", LINEAR, x0, times, epsilon).mean())
    assert same == pytest.approx(found, rel=1e-8)
    for factor, shift in ((0.99, 0.0), (1.01, 0.0), (1.0, 0.01)):

        def other(x: Tensor, t: Tensor, factor: float = factor, shift: float = shift) -> Tensor:
            return factor * optimal(x, t) + shift

        worse = denoising_loss(other, "epsilon", LINEAR, x0, times, epsilon).mean()
        assert float(worse) > found


@pytest.mark.parametrize("sigma", [0.05, 0.5, 3.0])
def test_the_floor_of_denoising_score_matching(sigma: float) -> None:
    """d s²/(σ² (s² + σ²)) on N(m, s²): a loss below it is a bug."""
    m, s2 = 2.0, 0.25
    z0, epsilon = sigma_points()
    x0, times = m + math.sqrt(s2) * z0, torch.full((4,), sigma).double()
    score = scalar(m, s2).score(EDM())
    found = float(denoising_loss(score, "score", EDM(), x0, times, epsilon).mean())
    assert found == pytest.approx(s2 / (sigma**2 * (s2 + sigma**2)), rel=1e-7)


def test_losses_sum_over_the_dimensions_of_images() -> None:
    x0 = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    loss = denoising_loss(
        lambda x, _: torch.zeros_like(x), "v", LINEAR, x0, torch.tensor([1, 500, 999]), x0
    )
    level = LINEAR.level(torch.tensor([1, 500, 999]))
    target = regression_target(x0, x0, level, "v")
    assert loss.shape == (3,)
    assert loss.numpy() == pytest.approx(np.square(target.numpy()).sum((1, 2, 3)), rel=1e-5)
