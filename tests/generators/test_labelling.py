"""The most probable image in which phases meet, against all images there are."""

from __future__ import annotations

import itertools

import pytest
import torch

from generators.networks.autoencoder import Autoencoder
from generators.networks.labelling import most_probable
from generators.pixels import PixelCode


def best_of_all(logits: torch.Tensor) -> float:
    """Log-probability of the best of all label images of more than one phase."""
    p, h, w = logits.shape
    of_pixels = logits.log_softmax(0).flatten(1)
    images = (x for x in itertools.product(range(p), repeat=h * w) if len(set(x)) > 1)
    return max(float(of_pixels[list(x), range(h * w)].sum()) for x in images)


@pytest.mark.parametrize("phases", [2, 3])
@pytest.mark.parametrize("lead", [0.0, 3.0, 30.0])
def test_no_image_in_which_phases_meet_is_more_probable(phases: int, lead: float) -> None:
    """``lead`` of the last phase: with 30 every pixel's own best is that one."""
    stream = torch.Generator().manual_seed(phases)
    logits = torch.randn(20, phases, 2, 3, generator=stream, dtype=torch.float64)
    logits[:, -1] += lead
    found = most_probable(logits)
    assert found.shape == (20, 2, 3)
    assert found.dtype == torch.uint8
    of_pixels = logits.log_softmax(1).gather(1, found.long()[:, None]).sum((1, 2, 3))
    assert of_pixels.tolist() == pytest.approx([best_of_all(one) for one in logits], abs=1e-12)
    if lead == 30.0:
        assert bool(((found != phases - 1).sum((1, 2)) == 1).all())


def test_where_phases_meet_every_pixel_has_its_own_best() -> None:
    logits = torch.randn(50, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(most_probable(logits), logits.argmax(1).to(torch.uint8))


def test_a_space_of_one_phase_has_images_of_one_phase() -> None:
    assert not bool(most_probable(torch.randn(3, 1, 4, 4)).any())
    assert most_probable(torch.zeros(0, 2, 4, 4)).shape == (0, 4, 4)


def test_codes_of_one_phase_become_images_in_which_phases_meet() -> None:
    code = PixelCode(2, torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
    images = code.decode(torch.full((3, 1, 8, 8), 0.5))
    assert images.sum((1, 2)).tolist() == [63, 63, 63]
    network = Autoencoder(phases=3, latent_channels=2, width=8)
    with torch.no_grad():
        labels = network.decode_labels(torch.zeros(4, 2, 4, 4))
    assert bool((labels.amin((1, 2)) != labels.amax((1, 2))).all())
