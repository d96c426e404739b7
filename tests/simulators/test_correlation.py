"""Statistics of label images against counting one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from loop.errors import InvalidInputError
from loop.statistics import two_point_radial
from simulators.correlation import (
    interface_density,
    mean_chord_length,
    mean_chord_lengths,
    radial_mean,
    two_point,
)
from simulators.verification import checkerboard, stripes
from tests.oracles import counted_chords, counted_two_point
from tests.simulators.conftest import ImageMaker


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("shape", [(4, 5), (3, 3), (1, 6)])
def test_two_point_counted_pair_by_pair(shape: tuple[int, int], periodic: bool) -> None:
    a, b = np.random.default_rng(0).random((2, *shape)) < 0.5
    fields = a.astype(float), b.astype(float)
    np.testing.assert_allclose(
        two_point(*fields, periodic=periodic),
        counted_two_point(*fields, periodic=periodic),
        atol=1e-13,
    )
    np.testing.assert_allclose(
        two_point(fields[0], periodic=periodic),
        counted_two_point(fields[0], fields[0], periodic=periodic),
        atol=1e-13,
    )


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("kind", [np.bool_, np.uint8, np.int64])
def test_pairs_of_indicators_are_counted_exactly(kind: type[np.generic], periodic: bool) -> None:
    a, b = np.random.default_rng(1).random((2, 7, 6)) < 0.4
    expected = counted_two_point(a.astype(float), b.astype(float), periodic=periodic)
    found = two_point(a.astype(kind), b.astype(kind), periodic=periodic)
    np.testing.assert_array_equal(found, expected)
    tensor = two_point(torch.as_tensor(a), torch.as_tensor(b), periodic=periodic)
    np.testing.assert_array_equal(tensor.numpy(), expected)


def test_two_point_of_a_large_image_is_a_whole_number_of_pairs() -> None:
    """At a few lags of 512 x 384 pixels, periodic and not, against shifted images."""
    a, b = np.random.default_rng(2).random((2, 512, 384)) < 0.3
    found, inside = two_point(a, b), two_point(a, b, periodic=False)
    for dy, dx in ((0, 0), (1, 0), (-3, 200), (255, -191)):
        shifted = np.roll(b, (-dy, -dx), (0, 1))
        assert found[dy, dx] == (a & shifted).mean()
        rows = slice(max(0, -dy), 512 - max(0, dy))
        columns = slice(max(0, -dx), 384 - max(0, dx))
        assert inside[dy, dx] == (a & shifted)[rows, columns].mean()


def test_two_point_of_stripes() -> None:
    """Width s: S2 falls by r / 2 s across, from 1/2 to 0 at s, and stays along."""
    s2 = two_point(stripes(32, 4)[0] == 1)
    np.testing.assert_array_equal(s2[0, :9] * 8, [4, 3, 2, 1, 0, 1, 2, 3, 4])
    np.testing.assert_array_equal(s2[:, 0], np.full(32, 0.5))


def test_two_point_of_independent_pixels() -> None:
    """phi at 0, phi^2 elsewhere. 4 million pairs a lag, each dependent on two others: the sd of
    a lag is below sqrt(3 phi^2 / 4e6) = 3.5e-4; six of them over 1,023 lags.
    """
    images = np.random.default_rng(3).random((4000, 32, 32)) < 0.4
    s2 = two_point(images).mean(0)
    assert s2[0, 0] == images.mean()
    np.testing.assert_allclose(s2.ravel()[1:], 0.16, atol=2.1e-3)


@pytest.mark.parametrize("shape", [(16, 16), (12, 17)])
def test_radial_mean_is_that_of_micrographs(shape: tuple[int, int]) -> None:
    images = np.random.default_rng(4).random((3, *shape)) < 0.4
    _, expected = two_point_radial(images)
    found = radial_mean(two_point(images, periodic=False), periodic=False)
    np.testing.assert_allclose(found, expected, atol=1e-13)
    wrapped = radial_mean(two_point(images))
    assert wrapped.shape == expected.shape
    np.testing.assert_allclose(wrapped[:, 0], images.mean((1, 2)))
    np.testing.assert_allclose(radial_mean(np.ones(shape)), 1.0)


def test_two_point_of_a_checkerboard() -> None:
    s2 = two_point((checkerboard(8)[0] == 1).astype(float))
    assert s2[0, 0] == pytest.approx(0.5)  # the area fraction
    assert s2[4, 4] == pytest.approx(0.5)
    assert s2[0, 4] == pytest.approx(0.0)
    assert s2[0, 1] == pytest.approx(3 / 8)
    np.testing.assert_allclose(s2.mean(), 0.25)  # fraction squared


def test_two_point_of_batches_and_tensors(random_images: ImageMaker) -> None:
    images = random_images(6, (9, 8)).astype(float).reshape(2, 3, 9, 8)
    batch = two_point(images, periodic=False)
    assert batch.shape == (2, 3, 17, 15)
    np.testing.assert_allclose(batch[1, 2], two_point(images[1, 2], periodic=False), atol=1e-14)
    tensor = two_point(torch.as_tensor(images), periodic=False)
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(tensor.numpy(), batch)


def test_two_point_passes_gradients() -> None:
    field = torch.rand(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def correlation(x: torch.Tensor) -> torch.Tensor:
        return radial_mean(two_point(x))

    assert torch.autograd.gradcheck(correlation, field.requires_grad_())


@pytest.mark.parametrize("phase", [0, 1, 2])
def test_chords_counted_one_by_one(random_images: ImageMaker, phase: int) -> None:
    images = random_images(30, (18, 20), phases=3, blur=0.05, seed=1)
    inside = images == phase  # keep those in which no row and no column is filled
    images = images[~(inside.all(1).any(1) | inside.all(2).any(1))]
    assert len(images) > 10
    both = mean_chord_lengths(images, phase)
    pooled = mean_chord_length(images, phase)
    for i, image in enumerate(images):
        x, y = counted_chords(image == phase), counted_chords((image == phase).T)
        assert both[i, 0] == pytest.approx(np.mean(x))
        assert both[i, 1] == pytest.approx(np.mean(y))
        assert pooled[i] == pytest.approx(np.mean(x + y))


def test_chords_of_stripes_and_squares() -> None:
    np.testing.assert_array_equal(mean_chord_lengths(stripes(32, 4), 1), [[4, np.inf]])
    assert mean_chord_length(stripes(32, 4), 1)[0] == 8
    np.testing.assert_array_equal(mean_chord_lengths(checkerboard(32), 0), [[16, 16]])
    assert mean_chord_length(checkerboard(32), 0)[0] == 16


def test_absent_and_filling_phase() -> None:
    image = np.zeros((1, 5, 5), dtype=np.uint8)
    assert np.isnan(mean_chord_length(image, 1)[0])
    assert mean_chord_length(image, 0)[0] == np.inf
    assert interface_density(image)[0] == 0


def test_interface_density_by_hand() -> None:
    image = np.zeros((8, 10), dtype=np.uint8)
    image[2:4, 3:6] = 1  # a block of 2 x 3 pixels has 10 edges
    image[6, 9] = 2  # a pixel has 4
    assert interface_density(image) == pytest.approx(14 / 80)
    assert interface_density(stripes(32, 4))[0] == pytest.approx(1 / 4)
    assert interface_density(checkerboard(32))[0] == pytest.approx(2 / 16)


def test_wrong_input_is_named() -> None:
    with pytest.raises(InvalidInputError, match="expected integer"):
        interface_density(np.zeros((4, 4)))
    with pytest.raises(InvalidInputError, match="expected equal"):
        two_point(np.zeros((4, 4)), np.zeros((4, 5)))
