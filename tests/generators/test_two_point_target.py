"""Two-point functions of known images in closed form, and those that no image has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from generators.spectral_field import mean_product
from generators.two_point_target import TwoPointTarget, pair_counts
from loop.errors import InvalidInputError
from loop.features import autocorrelation
from loop.images import read_labels

Labels = NDArray[np.uint8]
DATA = Path(__file__).parents[2] / "benchmarks" / "data" / "morphology"


def stripes(h: int, w: int, s: int) -> Labels:
    """Vertical stripes of width s, period 2 s."""
    return np.tile((np.arange(w) // s % 2).astype(np.uint8), (h, 1))


def board(n: int, s: int) -> Labels:
    """A checkerboard of squares of side s."""
    line = np.arange(n) // s % 2
    return (line[:, None] ^ line).astype(np.uint8)


def triangle(n: int, s: int) -> NDArray[np.float64]:
    """Autocorrelation of a line of n pixels, −1 and 1 by turns of s: 1 − 2 r / s up to r = s."""
    r = np.arange(n) % (2 * s)
    return 1.0 - 2.0 * np.minimum(r, 2 * s - r) / s


def blobs(shape: tuple[int, int], seed: int = 0, fraction: float = 0.4) -> Labels:
    """A smoothed periodic noise cut at a fraction."""
    white = np.random.default_rng(seed).standard_normal(shape)
    y, x = (np.fft.fftfreq(n) for n in shape)
    low = np.fft.ifft2(np.fft.fft2(white) * np.exp(-60 * (y[:, None] ** 2 + x**2))).real
    return (low > np.quantile(low, 1 - fraction)).astype(np.uint8)


@pytest.mark.parametrize(("h", "w", "s"), [(8, 12, 1), (10, 16, 4), (24, 12, 3)])
def test_stripes(h: int, w: int, s: int) -> None:
    """S2(dx) = (1 + t(dx)) / 4, t the triangle wave, at every dy."""
    found = TwoPointTarget.of_image(stripes(h, w, s), max_lag=4)
    exact = np.tile(0.25 * (1.0 + triangle(w, s)), (h, 1))
    np.testing.assert_allclose(found.two_point, exact, atol=1e-15)
    assert found.fraction == 0.5
    assert found.pixels == h * w // 2


@pytest.mark.parametrize(("n", "s"), [(8, 1), (16, 4), (12, 3)])
def test_checkerboard(n: int, s: int) -> None:
    """S2 = (1 + t(dy) t(dx)) / 4: indicators are (1 ± products of two lines) / 2."""
    found = TwoPointTarget.of_image(board(n, s), max_lag=2)
    line = triangle(n, s)
    np.testing.assert_allclose(found.two_point, 0.25 * (1 + np.outer(line, line)), atol=1e-15)


def test_pairs_counted_one_by_one() -> None:
    image = blobs((7, 10))
    found = pair_counts(image[None])[0]
    for y in range(7):
        for x in range(10):
            shifted = np.roll(image, (-y, -x), (0, 1))
            assert found[y, x] == np.sum(image * shifted, dtype=int)


def test_shifts_and_the_other_estimators_agree() -> None:
    image = blobs((48, 40))
    target = TwoPointTarget.of_image(image, max_lag=12)
    for shift in ((5, 0), (17, 31)):
        moved = np.roll(image, shift, (0, 1))
        np.testing.assert_array_equal(pair_counts(moved[None])[0], target.counts)
        assert target.errors(moved[None])[0] == 0.0
    whole = mean_product(image[None], image[None], periodic=True)
    np.testing.assert_allclose(target.two_point, whole, atol=1e-12)
    lags = autocorrelation(image[None].astype(float), 12)[0]
    near = TwoPointTarget.of_lags(lags, image.shape)
    assert near.max_lag == 12
    np.testing.assert_array_equal(near.window, target.window)
    np.testing.assert_allclose(near.two_point[near.window], target.two_point[near.window])
    assert np.all(near.two_point[~near.window] == near.fraction**2)


def test_the_error_is_the_root_mean_square_over_the_window() -> None:
    image, other = blobs((32, 32), 0), blobs((32, 32), 1)
    target = TwoPointTarget.of_image(image, max_lag=5)
    squares = []
    for y in range(-5, 6):
        for x in range(-5, 6):
            pairs = [np.mean(one * np.roll(one, (-y, -x), (0, 1))) for one in (image, other)]
            squares.append((pairs[1] - pairs[0]) ** 2)
    exact = np.sqrt(np.mean(squares)) / image.mean()
    assert target.errors(other[None])[0] == pytest.approx(exact, rel=1e-9)


def test_a_window_of_half_the_sides_holds_every_lag() -> None:
    assert TwoPointTarget.of_image(blobs((16, 16)), max_lag=8).window.all()


@pytest.mark.parametrize("path", sorted(DATA.glob("*.png")), ids=lambda p: p.stem)
def test_real_images_are_targets_of_either_phase(path: Path) -> None:
    image = read_labels(path)
    for phase in (0, 1):
        target = TwoPointTarget.of_image(image, phase=phase)
        assert target.fraction == np.mean(image == phase)
        assert target.field().two_point[0, 0] == pytest.approx(target.fraction)


def broken(change: str) -> NDArray[np.float64]:
    s2 = np.array(TwoPointTarget.of_image(blobs((16, 16)), max_lag=4).two_point)
    if change == "nan":
        s2[3, 0] = np.nan
    elif change == "infinite":
        s2[0, 2] = np.inf
    elif change == "negative":
        s2[2, 3] = s2[-2, -3] = -0.01
    elif change == "above the fraction":
        s2[0, 4] = s2[0, -4] = s2[0, 0] + 0.1
    elif change == "covariance":
        s2 = (s2 - s2[0, 0] ** 2) / (s2[0, 0] - s2[0, 0] ** 2)
    elif change == "uneven":
        s2[2, 3] += 0.01
    elif change == "too steep":  # falls at once between two long lags, but slowly from lag 0
        s2 = np.full((16, 16), 0.16)
        near = np.abs((np.arange(16) + 8) % 16 - 8)
        s2[np.add.outer(near, near) < 4] = 0.38
        s2[0, 0] = 0.4
    elif change == "spectrum":
        near = np.abs((np.arange(16) + 8) % 16 - 8)
        s2 = np.where(np.maximum.outer(near, near) <= 1, 0.28, 0.16)
        s2[0, 0] = 0.4
    elif change == "constant":
        s2 = np.ones((16, 16))
    return s2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("nan", r"is nan at lag \(3, 0\); expected finite"),
        ("infinite", r"is inf at lag \(0, 2\)"),
        ("negative", r"is -0.01 at lag \(2, 3\); of a phase of fraction 0.398"),
        ("above the fraction", r"at lag \(0, 4\); of a phase of fraction"),
        ("covariance", "at lag 0 is 1; it is the fraction"),
        ("uneven", r"between lag \(2, 3\) and its opposite; give the average"),
        ("too steep", "changes by .* but only by 0.02 from lag 0"),
        ("spectrum", "of its power at negative spectral density"),
        ("constant", "a constant image has nothing to reconstruct"),
    ],
)
def test_what_no_image_has_is_refused(change: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        TwoPointTarget(broken(change), 4)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8), dtype=np.uint8), "no pixel of phase 1"),
        (np.ones((8, 8), dtype=np.uint8), "nothing but phase 1"),
        (np.zeros((2, 8, 8), dtype=np.uint8), r"shape \(2, 8, 8\)"),
        (np.full((8, 8), 0.5), "type float64; expected labels"),
    ],
)
def test_what_is_no_image_of_two_phases_is_refused(
    image: NDArray[np.generic], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        TwoPointTarget.of_image(image, max_lag=2)


def test_sizes_are_checked() -> None:
    image = blobs((16, 16))
    with pytest.raises(InvalidInputError, match="largest lag is 9 px; expected 1 to 8"):
        TwoPointTarget.of_image(image, max_lag=9)
    with pytest.raises(InvalidInputError, match=r"shape \(3, 3\); expected \(h, w\)"):
        TwoPointTarget(np.ones((3, 3)), 1)
    target = TwoPointTarget.of_image(image, max_lag=4)
    with pytest.raises(InvalidInputError, match=r"shape \(1, 8, 8\); expected \(n, 16, 16\)"):
        target.errors(np.zeros((1, 8, 8)))
    lags = autocorrelation(image[None].astype(float), 4)[0]
    for given, shape in ((lags[:, :3], (16, 16)), (lags, (8, 16)), (lags[0], (16, 16))):
        with pytest.raises(InvalidInputError, match="expected \\(2 m \\+ 1, m \\+ 1\\)"):
            TwoPointTarget.of_lags(given, shape)
    lags[0, 0] += 0.01
    with pytest.raises(InvalidInputError, match="a lag and its opposite"):
        TwoPointTarget.of_lags(lags, (16, 16))


def test_fraction_and_value_at_lag_0_have_to_agree() -> None:
    image = blobs((16, 16))
    lags = autocorrelation(image[None].astype(float), 4)[0]
    assert TwoPointTarget.of_lags(lags, (32, 32), fraction=float(image.mean())).shape == (32, 32)
    with pytest.raises(InvalidInputError, match=r"at lag 0 is 0.398.*, the phase fraction 0.5"):
        TwoPointTarget.of_lags(lags, (32, 32), fraction=0.5)
