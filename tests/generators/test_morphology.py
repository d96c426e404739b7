"""Statistics of images in closed form, thresholds to the pixel, and latents brought to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from generators.morphology import (
    PER_PHASE,
    Morphology,
    SketchSettings,
    matched,
    statistics,
    thresholds,
)
from loop.errors import InvalidCampaignError
from simulators.conductivity import effective_conductivity
from tests.libraries import blobs

SIDE = 32


def fields(labels: NDArray[np.uint8], phases: int = 2) -> Tensor:
    found = functional.one_hot(torch.from_numpy(labels).long(), phases)
    return found.permute(0, 3, 1, 2).double()


def images(n: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.stack(blobs(n, np.random.default_rng(seed), side=SIDE))


def bands(width: int) -> NDArray[np.uint8]:
    """One image of bands along x, (1, 32, 32)."""
    rows = (np.arange(SIDE) // width % 2).astype(np.uint8)
    return np.repeat(rows[:, None], SIDE, axis=1)[None]


@pytest.mark.parametrize("width", [1, 2, 8, 16])
def test_bands_are_as_anisotropic_as_can_be(width: int) -> None:
    """All of the spectrum of bands along x lies on the axis of y, and the other way round."""
    along_x = statistics(fields(bands(width)))[0].numpy()
    along_y = statistics(fields(bands(width).transpose(0, 2, 1)))[0].numpy()
    np.testing.assert_allclose(along_x, [0.5, 1 / width, 0.25], atol=1e-12)
    np.testing.assert_allclose(along_y, [0.5, 1 / width, -0.25], atol=1e-12)


def test_what_has_x_and_y_alike_has_no_anisotropy() -> None:
    board = (np.add.outer(np.arange(SIDE), np.arange(SIDE)) % 2).astype(np.uint8)[None]
    np.testing.assert_allclose(statistics(fields(board))[0].numpy(), [0.5, 2.0, 0.0], atol=1e-12)
    one = images(1)
    symmetric = (one + one.transpose(0, 2, 1) > 0).astype(np.uint8)
    assert float(statistics(fields(symmetric))[0, 2]) == pytest.approx(0.0, abs=1e-12)


def test_turning_an_image_turns_the_sign() -> None:
    some = images(6)
    found = statistics(fields(some)).numpy()
    turned = statistics(fields(np.ascontiguousarray(some.transpose(0, 2, 1)))).numpy()
    np.testing.assert_allclose(turned, found * [1, 1, -1], atol=1e-12)
    assert np.abs(found[:, 2]).max() > 1e-3


def test_to_second_order_it_is_the_anisotropy_of_the_conductivity() -> None:
    """k_xx - k_yy = (k_2 - k_1)²/k A + O(contrast³), Brown 1955, for fields without pixels.

    The scheme's own interfaces add terms of the same order, a few per cent of it for these images.
    """
    some = np.concatenate([images(6), bands(8)])
    contrast = 1.02
    k = effective_conductivity(some, np.array([1.0, contrast]), tolerance=1e-12)
    anisotropy = statistics(fields(some)).numpy()[:, 2]
    expected = (contrast - 1) ** 2 * anisotropy
    assert np.corrcoef(k.xx - k.yy, expected)[0, 1] > 0.99
    slope = float((k.xx - k.yy) @ expected / (expected @ expected))
    assert slope == pytest.approx(1.0, abs=0.1)


def test_several_phases_have_their_own() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (4, SIDE, SIDE)).astype(np.uint8)
    found = statistics(fields(labels, 3)).numpy()
    assert found.shape == (4, 2 * PER_PHASE)
    for phase in (1, 2):
        alone = statistics(fields((labels == phase).astype(np.uint8))).numpy()
        part = found[:, (phase - 1) * PER_PHASE : phase * PER_PHASE]
        np.testing.assert_allclose(part, alone, atol=1e-12)


def test_the_gradient_is_that_of_finite_differences() -> None:
    soft = torch.rand(2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(
        lambda x: statistics(torch.cat([1 - x, x], dim=1)), soft.requires_grad_()
    )


def test_coordinates_are_standardised_and_give_fractions_back() -> None:
    some = images(300)
    morphology = Morphology.fit(some, 2)
    found = morphology.of(some)
    np.testing.assert_allclose(found.mean(0).numpy(), 0.0, atol=1e-3)
    np.testing.assert_allclose(found.std(0, correction=0).numpy(), 1.0, atol=1e-3)
    own = some.mean((1, 2))
    np.testing.assert_allclose(morphology.fractions(found)[:, 0].numpy(), own, atol=1e-6)
    wanted = torch.tensor([0.25, np.nan])
    moved = morphology.with_fraction(found[:2], 1, wanted)
    assert float(morphology.fractions(moved)[0, 0]) == pytest.approx(0.25, abs=1e-6)
    assert torch.equal(moved[1], found[1])
    assert torch.equal(moved[:, 1:], found[:2, 1:])


@pytest.mark.parametrize("fraction", [0.0, 1e-4, 0.013, 0.5, 0.7771, 1.0])
def test_thresholds_meet_the_fraction_to_the_pixel(fraction: float) -> None:
    draws = torch.Generator().manual_seed(1)
    logits = 5 * torch.randn(7, 2, SIDE, SIDE, generator=draws)
    offsets = thresholds(logits, torch.full((7, 1), fraction))
    count = (logits + offsets).argmax(1).sum((1, 2))
    pixels = SIDE * SIDE
    assert torch.all(count == min(max(round(fraction * pixels), 1), pixels - 1))


@pytest.mark.parametrize("phases", [3, 4, 6])
def test_more_phases_have_prices_that_share_the_pixels_out(phases: int) -> None:
    """Every count to the pixel, and no other sharing of such counts is worth more (duality)."""
    draws = torch.Generator().manual_seed(1)
    logits = 5 * torch.randn(7, phases, SIDE, SIDE, generator=draws)
    shares = torch.from_numpy(np.random.default_rng(0).dirichlet([1.0] * phases, 7)).float()
    offsets = thresholds(logits, shares[:, 1:])
    labels = (logits + offsets).argmax(1)
    counts = functional.one_hot(labels.flatten(1), phases).sum(1)
    pixels = SIDE * SIDE
    assert torch.all((counts - (shares * pixels)).abs() < 1)
    value = logits.gather(1, labels[:, None]).double().sum((1, 2, 3))
    best = (logits + offsets).double().amax(1).sum((1, 2))
    bound = best - (counts * offsets[:, :, 0, 0]).double().sum(1)
    np.testing.assert_allclose(value, bound, rtol=1e-5)


def test_every_phase_keeps_a_pixel_and_too_much_is_shared_out() -> None:
    logits = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    asked = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.9, 0.6]])
    labels = (logits + thresholds(logits, asked)).argmax(1)
    counts = functional.one_hot(labels.flatten(1), 3).sum(1)
    assert counts[0].tolist() == [62, 1, 1]
    assert counts[1].tolist() == [1, 62, 1]
    assert counts[2].sum() == 64
    assert abs(int(counts[2, 1]) - 38) <= 1


def decode(z: Tensor) -> Tensor:
    """Latents (n, 1, 8, 8) as logits of 32 x 32 pixels, periodic and smooth."""
    z = functional.pad(z, (1, 1, 1, 1), mode="circular")
    up = functional.interpolate(z, scale_factor=4, mode="bilinear")[:, :, 4:-4, 4:-4]
    return torch.cat([-up, up], dim=1)


def test_latents_come_to_the_statistics_of_others() -> None:
    draws = torch.Generator().manual_seed(2)
    z = torch.randn(60, 1, 8, 8, generator=draws)
    other = z + 0.4 * torch.randn(z.shape, generator=draws)
    made = decode(torch.cat([z, other])).argmax(1).to(torch.uint8).numpy()
    morphology = Morphology.fit(made, 2)
    own, wanted = morphology.of(made[:60]), morphology.of(made[60:])
    errors, gaps = [], []
    for steps in (0, 1, 4, 12):
        moved, found = matched(z, decode, morphology, wanted, steps=steps)
        assert found.dtype == np.uint8
        counts = found.sum((1, 2))
        np.testing.assert_array_equal(counts, made[60:].sum((1, 2)))
        # What it says is what thresholds give.
        offsets = thresholds(decode(moved), morphology.fractions(wanted))
        again = (decode(moved) + offsets).argmax(1).numpy()
        np.testing.assert_array_equal(again, found)
        errors.append((morphology.of(found) - wanted)[:, 1:].square().sum(1).numpy())
        plain = decode(moved).argmax(1).numpy().mean((1, 2))
        gaps.append(np.abs(plain - made[60:].mean((1, 2))))
    # The latent comes to have the fraction by itself, and thresholds have less to do.
    np.testing.assert_allclose(gaps[0], np.abs(made[:60].mean((1, 2)) - made[60:].mean((1, 2))))
    assert np.median(gaps[-1]) < 0.2 * np.median(gaps[0])
    before = (own - wanted)[:, 1:].square().sum(1).numpy()
    assert np.median(errors[-1]) < 0.15 * np.median(before)


@pytest.mark.parametrize("start", [-0.1, 1.0, 3.0])
def test_a_start_outside_is_refused(start: float) -> None:
    with pytest.raises(InvalidCampaignError, match=r"start is .*; expected 0 or more, below 1"):
        SketchSettings(start=start)
