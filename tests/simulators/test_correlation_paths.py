"""Lineal path and chords against counting one by one, each other and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from loop.errors import InvalidInputError
from simulators.correlation import mean_chord_length, mean_chord_lengths
from simulators.correlation_paths import (
    AXES,
    Axis,
    chord_counts,
    chord_length_distribution,
    lineal_path,
)
from simulators.verification import checkerboard, stripes
from tests.oracles import counted_chords
from tests.simulators.conftest import ImageMaker


def counted_paths(field: NDArray[np.float64], *, periodic: bool) -> NDArray[np.float64]:
    """Segments of 1 … w pixels along x, one by one, (w,) mean products of (h, w) fields."""
    w = field.shape[1]
    found = []
    for length in range(1, w + 1):
        starts = range(w if periodic else w - length + 1)
        products = [
            float(np.prod([row[(x + k) % w] for k in range(length)]))
            for row in field
            for x in starts
        ]
        found.append(np.mean(products))
    return np.array(found)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("soft", [True, False])
def test_paths_counted_one_by_one(soft: bool, periodic: bool) -> None:
    field = np.random.default_rng(0).random((2, 5, 7))
    field = field if soft else (field < 0.7).astype(np.float64)
    found = lineal_path(field, "x", periodic=periodic)
    assert found.shape == (2, 7)
    for image, own in zip(field, found, strict=True):
        np.testing.assert_allclose(own, counted_paths(image, periodic=periodic), atol=1e-15)
    turned = lineal_path(field.swapaxes(-1, -2), "y", periodic=periodic)
    np.testing.assert_array_equal(turned, found)


def test_paths_of_stripes_and_squares() -> None:
    """Width s: L(r) = (s - r) / 2 s across, 1/2 along."""
    image = stripes(32, 4) == 1
    np.testing.assert_array_equal(
        lineal_path(image, "x", longest=5)[0], [4 / 8, 3 / 8, 2 / 8, 1 / 8, 0, 0]
    )
    np.testing.assert_array_equal(lineal_path(image, "y", longest=5)[0], [0.5] * 6)
    squares = checkerboard(16) == 1
    for axis in AXES:
        np.testing.assert_array_equal(
            lineal_path(squares, axis, longest=8)[0], np.arange(8, -1, -1) / 16
        )


def test_paths_of_independent_pixels() -> None:
    """phi^(r + 1) = p. 4 million segments, each dependent on 2 r others: the sd of the mean is
    below sqrt(p (2 r + 1) / 4e6) < 4e-4 for every r; four of them.
    """
    images = np.random.default_rng(1).random((1000, 64, 64)) < 0.4
    for axis in AXES:
        found = lineal_path(images, axis, longest=4).mean(0)
        np.testing.assert_allclose(found, 0.4 ** np.arange(1, 6), atol=1.6e-3)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("axis", AXES)
def test_chords_are_the_second_difference_of_the_paths(
    random_images: ImageMaker, axis: Axis, periodic: bool
) -> None:
    """Chords of l px hold l - r segments of r + 1 px; filled lines hold one everywhere."""
    images = random_images(20, (12, 15), phases=3, blur=0.05, seed=1)
    images[0, 4:] = 1  # filled lines along x
    images[1] = 1
    inside = images == 1
    n = 15 if axis == "x" else 12
    lines = 180 // n
    counts = chord_counts(images, 1, axis, periodic=periodic)
    assert counts.shape == (20, n)
    lengths, r = np.arange(1, n + 1), np.arange(n)
    held = np.maximum(lengths[None, :] - r[:, None], 0) @ counts.T  # (r, image)
    if periodic:
        filled = inside.all(-1 if axis == "x" else -2).sum(-1)
        held = held + filled * n
        starts = np.full(n, n)
    else:
        starts = n - r
    expected = held.T / (lines * starts)
    found = lineal_path(inside, axis, periodic=periodic)
    np.testing.assert_allclose(found, expected, atol=1e-14)


@pytest.mark.parametrize("phase", [0, 1, 2])
def test_chords_counted_one_by_one(random_images: ImageMaker, phase: int) -> None:
    images = random_images(20, (18, 20), phases=3, blur=0.05, seed=2)
    for axis in AXES:
        counts = chord_counts(images, phase, axis)
        for image, own in zip(images, counts, strict=True):
            lines = image == phase if axis == "x" else (image == phase).T
            expected = np.bincount(counted_chords(lines), minlength=len(own) + 1)[1:]
            np.testing.assert_array_equal(own, expected)


def test_means_of_the_distribution_are_the_mean_chords(random_images: ImageMaker) -> None:
    images = random_images(30, (24, 20), blur=0.05, seed=3)
    inside = images == 1
    images = images[~(inside.all(1).any(1) | inside.all(2).any(1))]
    assert len(images) > 5
    both = mean_chord_lengths(images, 1)
    for number, axis in enumerate(AXES):
        shares = chord_length_distribution(images, 1, axis)
        np.testing.assert_allclose(shares.sum(-1), 1.0)
        mean = shares @ np.arange(1, shares.shape[-1] + 1)
        np.testing.assert_allclose(mean, both[:, number])
    counts = [chord_counts(images, 1, axis) for axis in AXES]
    pooled = sum(c @ np.arange(1, c.shape[-1] + 1) for c in counts) / sum(c.sum(-1) for c in counts)
    np.testing.assert_allclose(pooled, mean_chord_length(images, 1))


def test_chords_of_independent_pixels_are_geometric() -> None:
    """Share (1 - phi) phi^(l - 1). 62,900 chords a direction: sd below 0.002, four of them."""
    image = (np.random.default_rng(4).random((1, 512, 512)) < 0.4).astype(np.int64)
    for axis in AXES:
        assert chord_counts(image, 1, axis).sum() > 60_000
        shares = chord_length_distribution(image, 1, axis)[0, :6]
        np.testing.assert_allclose(shares, 0.6 * 0.4 ** np.arange(6), atol=8e-3)


def test_cut_chords_count_as_they_are_seen() -> None:
    row = np.array([[1, 1, 0, 1, 1, 1, 0, 1]])
    np.testing.assert_array_equal(chord_counts(row, 1, "x"), [0, 0, 2, 0, 0, 0, 0, 0])
    cut = chord_counts(row, 1, "x", periodic=False)
    np.testing.assert_array_equal(cut, [1, 1, 1, 0, 0, 0, 0, 0])


def test_absent_and_filling_phase() -> None:
    image = np.zeros((1, 5, 6), dtype=np.uint8)
    assert not chord_counts(image, 0, "x").any()  # no end, no chord
    assert chord_counts(image, 0, "x", periodic=False)[0, 5] == 5
    assert np.isnan(chord_length_distribution(image, 1, "y")).all()
    np.testing.assert_array_equal(lineal_path(image == 0, "y"), np.ones((1, 5)))
    np.testing.assert_array_equal(lineal_path(image == 1, "y"), np.zeros((1, 5)))


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("axis", AXES)
def test_paths_pass_gradients(axis: Axis, periodic: bool) -> None:
    field = torch.rand(2, 3, 4, dtype=torch.float64, generator=torch.manual_seed(0))
    field[0, 1, 1] = 0.0  # no division hides in the product
    field.requires_grad_()

    def paths(f: torch.Tensor) -> torch.Tensor:
        return lineal_path(f, axis, periodic=periodic)

    assert torch.autograd.gradcheck(paths, field)


def test_wrong_input_is_named() -> None:
    with pytest.raises(InvalidInputError, match=r"expected \(\.\.\., h, w\)"):
        lineal_path(np.zeros(4), "x")
    with pytest.raises(InvalidInputError, match="expected 0 to 4 in lines of 5 px"):
        lineal_path(np.zeros((3, 5)), "x", longest=5)
    with pytest.raises(InvalidInputError, match=r"axis 'z'; expected 'x'"):
        lineal_path(np.zeros((3, 5)), "z")  # type: ignore[call-overload]
    with pytest.raises(InvalidInputError, match="expected integer"):
        chord_counts(np.zeros((3, 5)), 0, "x")
