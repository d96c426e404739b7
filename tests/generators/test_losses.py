"""Losses of autoencoders: by hand, against the statistics of the loop, and where gradients go."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from generators.networks.autoencoder import Autoencoder
from generators.networks.discriminator import PATCH, PatchDiscriminator
from generators.training.autoencoding import AutoencoderLoss
from generators.training.losses import (
    active_units,
    check_images,
    check_training_images,
    discriminator_loss,
    free_bits,
    generator_loss,
    gradient_loss,
    hard_fields,
    two_point,
    two_point_loss,
    warm_up,
)
from generators.vae import VAESettings
from loop.errors import InvalidInputError
from loop.statistics import two_point_radial


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(n: int, h: int, w: int, phases: int = 2, seed: int = 0) -> Tensor:
    """Blocks of 4 x 4 pixels at random phases."""
    draws = torch.Generator().manual_seed(seed)
    small = torch.randint(phases, (n, h // 4, w // 4), generator=draws, dtype=torch.uint8)
    return small.repeat_interleave(4, 1).repeat_interleave(4, 2)


# Divergence


def test_the_warm_up_is_linear_from_nothing_to_all() -> None:
    assert [warm_up(t, 4) for t in range(7)] == [0, 0.25, 0.5, 0.75, 1, 1, 1]
    assert [warm_up(t, 0) for t in range(3)] == [1, 1, 1]


def test_free_bits_by_hand() -> None:
    """Means 0.1, 0.5 and 2 nats: below 0.5 a dimension counts 0.5 and has no gradient."""
    kl = torch.tensor([[0.0, 0.2, 1.0], [0.2, 0.8, 3.0]], requires_grad=True)
    found = free_bits(kl, 0.5)
    assert float(found.detach()) == pytest.approx(0.5 + 0.5 + 2.0)
    free_bits(kl, 0.3).backward()
    assert kl.grad is not None
    assert kl.grad.tolist() == [[0, 0.5, 0.5], [0, 0.5, 0.5]]
    assert float(free_bits(kl.detach())) == pytest.approx(float(kl.detach().sum(1).mean()))


def test_active_units_are_those_whose_means_move() -> None:
    means = torch.tensor(
        [[1.0, 0.0, 5.0], [1.0, 0.3, 5.1], [1.0, 0.6, 5.2]]
    )  # variance 0.06, .0067
    assert active_units(means).tolist() == [False, True, False]


# Statistics of the field


@pytest.mark.parametrize(("h", "w"), [(16, 16), (12, 33), (7, 5)])
def test_the_two_point_probability_is_that_of_the_loop(h: int, w: int) -> None:
    fields = (normal(3, h, w) > 0.3).double()
    _, expected = two_point_radial(fields.numpy())
    assert two_point(fields).numpy() == pytest.approx(expected, abs=1e-12)
    # Any axes before, float32, and soft fields.
    soft = normal(2, 3, h, w, seed=2).sigmoid()
    _, expected = two_point_radial(soft.flatten(0, 1).numpy())
    found = two_point(soft.float()).flatten(0, 1).numpy()
    assert found == pytest.approx(expected, abs=1e-5)


def test_the_two_point_loss_of_constant_fields() -> None:
    """S2 of a field of shares s is s² at every distance."""
    ones = torch.ones(2, 3, 20, 20, dtype=torch.float64)
    assert float(two_point_loss(0.5 * ones, ones)) == pytest.approx(0.75, abs=1e-12)
    assert float(two_point_loss(0.5 * ones, ones, lags=2)) == pytest.approx(0.75, abs=1e-12)
    fields = (normal(2, 24, 24) > 0).double()
    assert float(two_point_loss(fields, fields)) == 0.0
    assert float(two_point_loss(fields, 1 - fields)) > 1e-3


def test_losses_of_the_field_have_their_gradients() -> None:
    found, wanted = normal(2, 9, 8).requires_grad_(), normal(2, 9, 8, seed=2)
    assert torch.autograd.gradcheck(two_point, (found,))
    assert torch.autograd.gradcheck(lambda x: two_point_loss(x, wanted), (found,))
    assert torch.autograd.gradcheck(lambda x: gradient_loss(x, wanted), (found,))


def test_the_gradient_loss_of_ramps() -> None:
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(9.0), indexing="ij")
    flat = torch.full((6, 9), 3.0)
    assert float(gradient_loss(0.5 * x, flat)) == pytest.approx(0.5)
    assert float(gradient_loss(0.5 * x - 0.25 * y, flat)) == pytest.approx(0.75)
    assert float(gradient_loss(x + 7.0, x)) == pytest.approx(0.0)


# Discriminator


def test_adversarial_losses_at_their_closed_forms() -> None:
    """At chance 2 log 2 and log 2; at the optimum 2 log 2 − 2 JSD (Goodfellow et al. 2014)."""
    zero = torch.zeros(5, 1, 3, 3, dtype=torch.float64)
    assert float(discriminator_loss(zero, zero)) == pytest.approx(2 * math.log(2))
    assert float(generator_loss(zero)) == pytest.approx(math.log(2))
    # Two states, real with 3:1, made with 1:3; the optimal logit is log p/q = ± log 3.
    best = math.log(3) * torch.tensor([1.0, 1.0, 1.0, -1.0], dtype=torch.float64)
    jsd = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    exact = 2 * math.log(2) - 2 * jsd
    assert float(discriminator_loss(best, -best)) == pytest.approx(exact)
    for other in (0.9, 1.1):
        assert float(discriminator_loss(other * best, -other * best)) > exact


def test_the_generator_loss_does_not_saturate() -> None:
    """Where the discriminator is sure, its gradient is −1, that of log(1 − D) is 0."""
    logit = torch.tensor([-30.0], requires_grad=True)
    generator_loss(logit).backward()
    assert logit.grad is not None
    assert float(logit.grad) == pytest.approx(-1.0)


def test_hard_fields_are_sharp_and_have_the_gradient_of_the_softmax() -> None:
    logits = normal(2, 3, 4, 4).requires_grad_()
    weights = normal(2, 3, 4, 4, seed=2)
    hard = hard_fields(logits)
    assert hard.detach().round(decimals=9).unique().tolist() == [0.0, 1.0]
    assert torch.equal(hard.argmax(1), logits.argmax(1))
    (found,) = torch.autograd.grad((weights * hard).sum(), logits)
    (soft,) = torch.autograd.grad((weights * logits.softmax(1)).sum(), logits)
    assert torch.equal(found, soft)


def test_a_logit_sees_its_patch() -> None:
    """By the derivative: as many pixels along each side as ``PATCH`` says."""
    torch.manual_seed(0)
    judge = PatchDiscriminator(2, width=8).double()
    fields = normal(1, 2, 48, 64).requires_grad_()
    logits = judge(fields)
    assert logits.shape == (1, 1, 12, 16)
    (gradient,) = torch.autograd.grad(logits[0, 0, 6, 8], fields)
    seen = gradient[0].abs().sum(0) > 0
    assert int(seen.any(0).sum()) == int(seen.any(1).sum()) == PATCH


# The whole


def network(phases: int | None = 2, seed: int = 0) -> Autoencoder:
    torch.manual_seed(seed)
    return Autoencoder(phases, latent_channels=2, width=8)


def loss_of(settings: VAESettings, phases: int | None = 2) -> AutoencoderLoss:
    return AutoencoderLoss(network(phases), settings, torch.Generator().manual_seed(1))


def test_the_weight_of_the_divergence_follows_the_steps() -> None:
    images = labels(3, 16, 24)
    loss = loss_of(VAESettings(kl_weight=0.5, kl_warmup=4.0))
    for step in range(6):
        loss.step = step
        total = loss(images)
        rest = float(total.detach()) - loss.figures["reconstruction"]
        share = 0.5 * min(1.0, step / 4) * loss.figures["kl_nats"] / (16 * 24)
        assert rest == pytest.approx(share, abs=2e-7)


def test_free_bits_are_paid_for_anyway() -> None:
    """An untrained encoder says nothing: the divergence is the floor of all its numbers."""
    loss = loss_of(VAESettings(free_bits=3.0))
    with torch.no_grad():
        for parameter in loss.network.encoder[-1].parameters():
            parameter.zero_()
    loss(labels(3, 16, 24))
    assert loss.figures["kl_nats"] == pytest.approx(3.0 * 2 * 2 * 3)


def test_grey_images_cost_a_normal() -> None:
    images = labels(3, 16, 16).float()
    loss = loss_of(VAESettings(kl_weight=0.0, deviation=0.2), phases=None)
    with torch.no_grad():
        for parameter in loss.network.decoder[-2].parameters():
            parameter.zero_()  # then the mean is 0.5 everywhere
    expected = 0.5 * (0.25 / 0.04 + math.log(2 * math.pi * 0.04))
    assert float(loss(images).detach()) == pytest.approx(expected, rel=1e-5)


def test_features_are_added_with_their_weights() -> None:
    images = labels(3, 32, 32, phases=3)
    plain = loss_of(VAESettings(), phases=3)(images)
    loss = loss_of(VAESettings(two_point_weight=0.5, gradient_weight=0.25), phases=3)
    total = loss(images)
    more = 0.5 * loss.figures["two_point"] + 0.25 * loss.figures["gradient"]
    assert more > 1e-3
    assert float((total - plain).detach()) == pytest.approx(more, rel=1e-4)


def adversarial(weight: float = 0.1, start: float = 0.5) -> AutoencoderLoss:
    settings = VAESettings(
        steps=4, adversarial_weight=weight, adversarial_start=start, discriminator_width=8
    )
    torch.manual_seed(3)
    return loss_of(settings)


def test_the_discriminator_joins_after_its_warm_up() -> None:
    loss, images = adversarial(), labels(4, 32, 32)
    assert loss.discriminator is not None
    before = [p.clone() for p in loss.discriminator.parameters()]
    for step in range(4):
        loss.step = step
        loss(images)
        same = all(
            torch.equal(a, b) for a, b in zip(before, loss.discriminator.parameters(), strict=True)
        )
        assert same == (step < 2)
        assert ("adversarial" in loss.figures) == (step >= 2)


def test_gradients_of_the_adversaries_stay_apart() -> None:
    """The discriminator's step leaves no trace in the autoencoder, nor the other way around."""
    loss, images = adversarial(start=0.0), labels(4, 32, 32)
    judge = loss.discriminator
    assert judge is not None
    total = loss(images)
    assert all(p.grad is None for p in loss.network.parameters())
    total.backward()
    assert all(p.grad is None for p in judge.parameters())
    assert all(p.requires_grad for p in judge.parameters())
    with_judge = [p.grad.clone() for p in loss.network.parameters() if p.grad is not None]
    plain = loss_of(replace(loss.settings, adversarial_weight=0.0))
    plain(images).backward()
    without = [p.grad for p in plain.network.parameters() if p.grad is not None]
    assert len(with_judge) == len(without) == len(list(loss.network.parameters()))
    moved = [not torch.allclose(a, b, atol=1e-9) for a, b in zip(with_judge, without, strict=True)]
    assert any(moved)  # and the decoder hears of it


# What cannot be used


@pytest.mark.parametrize(
    ("images", "phases", "message"),
    [
        (torch.zeros(0, 16, 16, dtype=torch.uint8), 2, "shape (0, 16, 16); expected (n, h, w) lab"),
        (torch.zeros(4, 16, dtype=torch.uint8), 2, "shape (4, 16); expected (n, h, w) labels"),
        (torch.zeros(4, 20, 16, dtype=torch.uint8), 2, "20 x 16 pixels; expected multiples of 8"),
        (torch.zeros(4, 16, 16), 2, "images are float32; expected labels of 2 phases"),
        (labels(4, 16, 16), None, "images are uint8; expected grey images in [0, 1]"),
        (labels(4, 16, 16, phases=3), 2, "values from 0 to 2; expected labels of 2 phases, 0 to 1"),
        (labels(4, 16, 16).float() * 255, None, "values from 0 to 255; expected grey images"),
        (torch.full((4, 16, 16), math.nan), None, "values from nan to nan; expected grey images"),
    ],
)
def test_images_that_cannot_be_used(images: Tensor, phases: int | None, message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_images(images, phases, 8)
    assert message in str(caught.value)


def test_images_that_cannot_be_learned_from() -> None:
    images = labels(6, 16, 16)
    check_training_images(images, 6, 2)
    with pytest.raises(InvalidInputError, match=r"6 images for batches of 7; give more .* lower"):
        check_training_images(images, 7, 2)
    constant = torch.arange(6, dtype=torch.uint8)[:, None, None].expand(6, 16, 16) % 2
    with pytest.raises(InvalidInputError, match="all 6 images are constant, there is nothing"):
        check_training_images(constant, 4, 2)
    with pytest.raises(InvalidInputError, match="all 6 images are constant"):
        check_training_images(constant.float() / 2, 4, None)
    check_training_images(0 * constant, 4, 1)  # one phase is all there is
    assert np.isfinite(float(constant.float().mean()))


def test_crops_that_repeat_count_once() -> None:
    """One micrograph as large as a crop is one image, however often it is drawn."""
    images = labels(6, 16, 16)
    repeated = images[torch.arange(60) % 6]
    check_training_images(repeated, 6, 2)
    said = r"6 different images among 60 for batches of 7: .* lower vae\.batch"
    with pytest.raises(InvalidInputError, match=said):
        check_training_images(repeated, 7, 2)
    with pytest.raises(InvalidInputError, match="1 different images among 9 for batches of 2"):
        check_training_images(images[:1].expand(9, 16, 16).float(), 2, None)
