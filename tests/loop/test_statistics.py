"""Statistics of micrographs against brute force and against fields with a known answer."""

from __future__ import annotations

import numpy as np
import pytest

from loop.errors import InvalidInputError
from loop.statistics import precipitate_diameters, radial_power_spectrum, two_point_radial


def test_two_point_is_the_share_of_pairs_counted_one_by_one() -> None:
    rng = np.random.default_rng(1)
    image = rng.random((8, 10)) < 0.4
    sums, counts = np.zeros(5), np.zeros(5)
    vectors = {(dy, dx) for dy in range(-7, 8) for dx in range(-9, 10)}
    for dy, dx in vectors:
        shell = round(float(np.hypot(dy, dx)))
        if shell >= 5:
            continue
        pairs = [
            image[y, x] and image[y + dy, x + dx]
            for y in range(8)
            for x in range(10)
            if 0 <= y + dy < 8 and 0 <= x + dx < 10
        ]
        sums[shell] += np.mean(pairs)
        counts[shell] += 1
    r, s2 = two_point_radial(image[None])
    np.testing.assert_array_equal(r, np.arange(5))
    np.testing.assert_allclose(s2[0], sums / counts, atol=1e-12)


def test_two_point_starts_at_the_volume_fraction_and_forgets_to_its_square() -> None:
    rng = np.random.default_rng(2)
    images = rng.random((200, 32, 32)) < 0.3
    _, s2 = two_point_radial(images)
    np.testing.assert_allclose(s2[:, 0], images.mean((1, 2)), atol=1e-12)
    # 200 pictures, 1,024 pixels, pairs of one shell nearly independent: sd of the mean < 0.001.
    np.testing.assert_allclose(s2[:, 1:].mean(0), 0.09, atol=0.004)


def test_full_and_empty_pictures() -> None:
    _, s2 = two_point_radial(np.stack([np.ones((16, 16)), np.zeros((16, 16))]))
    np.testing.assert_allclose(s2, [[1.0] * 9, [0.0] * 9], atol=1e-12)
    _, power = radial_power_spectrum(np.stack([np.ones((16, 16)), np.zeros((16, 16))]))
    np.testing.assert_allclose(power, 0.0, atol=1e-20)


def test_spectrum_of_uncorrelated_pixels_is_flat_at_the_variance() -> None:
    rng = np.random.default_rng(3)
    images = rng.random((400, 32, 32)) < 0.3
    k, power = radial_power_spectrum(images)
    assert k[0] == pytest.approx(1 / 32)
    assert k[-1] == pytest.approx(0.5)
    # Power of one mode scatters by its own mean; the smallest shell has 8 modes, smeared by the
    # window into about 4 independent ones: sd 0.21/sqrt(1600) = 0.005.
    np.testing.assert_allclose(power.mean(0)[1:], 0.21, atol=0.02)


def test_spectrum_of_stripes_peaks_at_their_frequency() -> None:
    stripes = (np.arange(64) // 4 % 2).astype(float)[None, None, :] * np.ones((1, 64, 1))
    k, power = radial_power_spectrum(stripes)
    assert k[np.argmax(power[0])] == pytest.approx(1 / 8)


def test_diameters_are_those_of_circles_of_equal_area() -> None:
    image = np.zeros((64, 64), dtype=np.uint8)
    y, x = np.mgrid[:64, :64]
    image[np.hypot(y - 20, x - 20) <= 8] = 1
    image[40:44, 40:44] = 1
    image[50, 50] = image[51, 51] = 1  # touch at a corner only: two particles
    found = np.sort(precipitate_diameters(image))
    single = np.sqrt(4 / np.pi)
    np.testing.assert_allclose(found[:3], [single, single, 4 * single])
    assert found[3] == pytest.approx(16, rel=0.03)  # a digitised disc of radius 8
    assert precipitate_diameters(np.zeros((4, 4))).size == 0


@pytest.mark.parametrize("shape", [(8, 8), (0, 8, 8), (2, 3, 8, 8)])
def test_wrong_shapes_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match="expected"):
        two_point_radial(np.zeros(shape))
