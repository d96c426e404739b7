"""Copies that are shifted, turned or part of a larger image are found; new images are not."""

from __future__ import annotations

import numpy as np
import pytest

from loop.copies import best_agreement, orientations, unique_images
from loop.errors import InvalidInputError


def images(n: int, side: int = 16, labels: int = 2) -> np.ndarray:
    return np.random.default_rng(n).integers(labels, size=(n, side, side)).astype(np.uint8)


@pytest.mark.parametrize("labels", [2, 3])
def test_a_shifted_and_turned_copy_is_found(labels: int) -> None:
    stack = images(4, labels=labels)
    for turned in orientations(stack[2]):
        copy = np.roll(turned, (5, 11), axis=(0, 1))
        found = best_agreement(copy[None], list(stack), periodic=True)
        assert found[0] == 1.0
        assert best_agreement(copy[None], list(stack[[0, 1, 3]]), periodic=True)[0] < 0.8
    shifted = np.roll(stack[2], (5, 11), axis=(0, 1))[None]
    assert best_agreement(shifted, list(stack), periodic=True, turned=False)[0] == 1.0
    assert best_agreement(np.rot90(shifted, axes=(1, 2)), [stack[2]], periodic=True)[0] == 1.0
    plain = best_agreement(np.rot90(shifted, axes=(1, 2)), [stack[2]], periodic=True, turned=False)
    assert plain[0] < 0.8


@pytest.mark.parametrize("shape", [(40, 40), (40, 50)])
def test_a_crop_is_found_in_its_micrograph_and_not_across_its_edge(shape: tuple[int, int]) -> None:
    whole = np.random.default_rng(1).integers(2, size=shape).astype(np.uint8)
    crop = whole[7:23, 20:36]
    for view in orientations(crop):
        assert best_agreement(view[None], [whole])[0] == 1.0
    around = np.roll(whole, (3, 4), axis=(0, 1))[:16, :16]
    assert best_agreement(around[None], [whole])[0] < 0.8
    assert best_agreement(around[None], [whole], periodic=True)[0] == 1.0


@pytest.mark.parametrize("labels", [2, 3])
def test_agreement_counts_pixels(labels: int) -> None:
    rng = np.random.default_rng(labels)
    whole = rng.integers(labels, size=(11, 13)).astype(np.uint8)
    image = rng.integers(labels, size=(6, 6)).astype(np.uint8)
    counted = max(
        float(np.mean(view == whole[y : y + 6, x : x + 6]))
        for view in orientations(image)
        for y in range(6)
        for x in range(8)
    )
    assert best_agreement(image[None], [whole])[0] == pytest.approx(counted, abs=1e-12)


def test_rectangles_are_turned_as_far_as_their_shape_allows() -> None:
    whole = np.random.default_rng(5).integers(2, size=(12, 20)).astype(np.uint8)
    assert len(orientations(whole)) == 4
    part = whole[2:8, 3:13][::-1]
    assert best_agreement(part[None], [whole])[0] == 1.0


def test_different_images_are_counted_once_each() -> None:
    stack = images(5)
    shifted = np.roll(stack[:2], (3, 9), axis=(1, 2))
    turned = np.stack([np.roll(np.rot90(stack[0]), 4, axis=0), stack[1][::-1]])
    everything = np.concatenate([stack, stack[:3], shifted, turned])
    assert unique_images(everything) == 9
    assert unique_images(everything, turned=True) == 8
    assert unique_images(everything, shifted=True) == 7
    assert unique_images(everything, shifted=True, turned=True) == 5
    three = images(3, labels=3)
    assert unique_images(np.concatenate([three, np.roll(three, 5, axis=2)]), shifted=True) == 3


def test_images_of_one_autocorrelation_are_compared_themselves() -> None:
    """An image and its half turn share the autocorrelation; only turning makes them one."""
    image = np.zeros((8, 8), dtype=np.uint8)
    image[[0, 0, 1, 3], [0, 1, 4, 2]] = 1
    pair = np.stack([image, image[::-1, ::-1]])
    assert unique_images(pair, shifted=True) == 2
    assert unique_images(pair, shifted=True, turned=True) == 1


def test_what_cannot_be_compared_is_refused() -> None:
    stack = images(2)
    with pytest.raises(InvalidInputError, match="at least as large"):
        best_agreement(stack, [stack[0][:8]])
    with pytest.raises(InvalidInputError, match="at least one"):
        best_agreement(stack, [])
    with pytest.raises(InvalidInputError, match=r"expected \(n, h, w\)"):
        unique_images(stack[0])
