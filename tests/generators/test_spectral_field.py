"""Level cuts of Gaussian fields against the bivariate normal, samples against the request."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import integrate, stats

from generators.spectral_field import (
    SpectralField,
    cut,
    cut_two_point,
    field_correlation,
    level,
    mean_product,
    opposite,
)
from loop.errors import InvalidInputError
from tests import oracles

FloatArray = NDArray[np.float64]
FRACTIONS = [0.05, 0.3, 0.5, 0.82]
RHO = np.array([-0.99, -0.6, -0.1, 0.0, 0.2, 0.7, 0.95, 0.999])


def gaussian_correlation(
    shape: tuple[int, int], along: float, across: float, turn: float
) -> FloatArray:
    """exp(−q) summed over periodic copies, q a quadratic form: never negative in the spectrum."""
    h, w = shape
    rho = np.zeros(shape)
    for sy, sx in np.ndindex(5, 5):
        y = (np.arange(h) + (sy - 2) * h)[:, None]
        x = np.arange(w) + (sx - 2) * w
        u, v = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
        rho += np.exp(-((u / along) ** 2) - (v / across) ** 2)
    return rho / rho[0, 0]


def two_points(images: NDArray[np.generic]) -> FloatArray:
    """Periodic S2 of each of (n, h, w) indicators."""
    power = np.abs(np.fft.fft2(images.astype(float))) ** 2
    found: FloatArray = np.fft.ifft2(power).real / images[0].size
    return found


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_the_cut_is_a_bivariate_normal_quadrant(fraction: float) -> None:
    """scipy's own integral over the quadrant, to its accuracy."""
    a = level(fraction)
    assert stats.norm.sf(a) == pytest.approx(fraction, rel=1e-12)
    for rho, found in zip(RHO, cut_two_point(RHO, fraction), strict=True):
        normal = stats.multivariate_normal(mean=[0.0, 0.0], cov=[[1.0, rho], [rho, 1.0]])
        # By symmetry P(X > a, Y > a) = P(X < −a, Y < −a).
        assert found == pytest.approx(normal.cdf([-a, -a]), abs=1e-7)


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_the_cut_is_the_integral_over_the_correlation(fraction: float) -> None:
    """φ² + ∫ exp(−a² / (1 + t)) / (2π √(1 − t²)) dt, in t = sin θ."""
    a = level(fraction)
    for rho, found in zip(RHO, cut_two_point(RHO, fraction), strict=True):
        area, _ = integrate.quad(
            lambda angle: np.exp(-(a**2) / (1.0 + np.sin(angle))) / (2.0 * np.pi),
            0.0,
            np.arcsin(rho),
            epsabs=1e-13,
        )
        assert found == pytest.approx(fraction**2 + area, abs=1e-12)


def test_the_median_cut_is_an_arcsine() -> None:
    expected = 0.25 + np.arcsin(RHO) / (2.0 * np.pi)
    np.testing.assert_allclose(cut_two_point(RHO, 0.5), expected, atol=1e-15)


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_the_ends_are_those_of_any_medium(fraction: float) -> None:
    found = cut_two_point(np.array([-1.0, 0.0, 1.0]), fraction)
    expected = [max(0.0, 2.0 * fraction - 1.0), fraction**2, fraction]
    np.testing.assert_allclose(found, expected, atol=1e-15)


@given(st.floats(0.02, 0.98), st.floats(-1.0, 1.0))
def test_inversion_round_trip(fraction: float, rho: float) -> None:
    s2 = cut_two_point(np.array([rho]), fraction)
    back = field_correlation(s2, fraction)
    assert cut_two_point(back, fraction)[0] == pytest.approx(s2[0], abs=1e-11)
    slope = np.exp(-(level(fraction) ** 2) / (1.0 + rho)) if rho > -1.0 else 0.0
    if slope > 1e-4:  # below it, S2 itself hardly depends on ρ
        assert back[0] == pytest.approx(rho, abs=1e-11)


def test_inversion_reaches_both_ends() -> None:
    found = field_correlation(np.array([[0.5, 0.25], [0.0, 0.25]]), 0.5)
    np.testing.assert_allclose(found, [[1.0, 0.0], [-1.0, 0.0]], atol=1e-15)


@pytest.mark.parametrize("fraction", [0.25, 0.5])
@pytest.mark.parametrize(
    ("along", "across", "turn"), [(4.0, 4.0, 0.0), (8.0, 2.0, 0.0), (8.0, 2.0, 0.5)]
)
def test_samples_have_the_two_point_statistics_asked_for(
    fraction: float, along: float, across: float, turn: float
) -> None:
    """Isotropic, drawn out along x, and along a slanting axis: at every lag of the grid."""
    shape, n = (48, 64), 300
    rho = gaussian_correlation(shape, along, across, turn)
    asked = cut_two_point(rho, fraction)
    field = SpectralField.of_two_point(asked, fraction)
    assert field.clipped < 1e-9
    np.testing.assert_allclose(field.two_point, asked, atol=1e-8)
    fields = field.fields(n, np.random.default_rng(1))
    # Five standard errors of n images, by their own scatter: 1,536 different lags.
    for_level = two_points(fields > level(fraction))
    error = 5.0 * for_level.std(0, ddof=1) / np.sqrt(n)
    assert np.all(np.abs(for_level.mean(0) - asked) < error)
    # Cut at their quantile they lose the variance of the fraction, which is the mean of S2 − φ².
    lost = asked.mean() - fraction**2
    for_fraction = two_points(cut(fields, fraction))
    error = 5.0 * for_fraction.std(0, ddof=1) / np.sqrt(n) + 2.0 * lost
    assert lost < 0.01
    assert np.all(np.abs(for_fraction.mean(0) - asked) < error + 1e-12)


def test_a_slanting_axis_stays_on_its_side() -> None:
    rho = gaussian_correlation((32, 32), 8.0, 2.0, 0.7)
    field = SpectralField.of_two_point(cut_two_point(rho, 0.4), 0.4)
    found = two_points(field.sample(100, np.random.default_rng(2))).mean(0)
    assert found[3, 3] > found[3, -3] + 0.1
    rho = gaussian_correlation((32, 32), 5.0, 5.0, 0.0)
    field = SpectralField.of_two_point(cut_two_point(rho, 0.4), 0.4)
    found = two_points(field.sample(100, np.random.default_rng(2))).mean(0)
    assert found[0, 4] == pytest.approx(found[4, 0], abs=0.01)
    assert found[3, 3] == pytest.approx(found[3, -3], abs=0.01)


@pytest.mark.parametrize("fraction", [1e-6, 0.1, 1 / 3, 0.777, 1 - 1e-6])
def test_the_fraction_is_met_to_a_pixel(fraction: float) -> None:
    field = SpectralField.of_correlation(gaussian_correlation((17, 23), 3.0, 3.0, 0.0), fraction)
    counts = field.sample(9, np.random.default_rng(3)).sum((1, 2))
    assert set(counts) == {min(max(round(fraction * 391), 1), 390)}


def test_the_same_stream_gives_the_same_images() -> None:
    field = SpectralField.of_correlation(gaussian_correlation((16, 16), 3.0, 3.0, 0.0), 0.4)
    first, again = (field.sample(4, np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, field.sample(4, np.random.default_rng(5)))


def test_what_no_field_has_is_replaced_by_the_nearest() -> None:
    """The density found is the projection: it meets the conditions that only the nearest does."""
    rho = np.zeros((12, 14))
    rho[0, 0] = 1.0
    rho[0, 1] = rho[0, -1] = rho[1, 0] = rho[-1, 0] = 0.6
    y, x = (2.0 * np.pi * np.fft.fftfreq(size) for size in rho.shape)
    power = 1.0 + 1.2 * (np.cos(y)[:, None] + np.cos(x))
    field = SpectralField.of_correlation(rho, 0.5)
    assert field.clipped == pytest.approx(-power[power < 0].sum() / power[power > 0].sum())
    assert field.clipped > 0.1
    density = field.density
    assert density.min() == 0.0
    assert density.mean() == pytest.approx(1.0, abs=1e-14)
    assert field.correlation[0, 0] == pytest.approx(1.0, abs=1e-14)
    shift = power[density > 0] - density[density > 0]
    assert np.ptp(shift) < 1e-12  # one multiplier wherever there is power left,
    assert power[density == 0].max() <= shift.mean() + 1e-12  # and none is worth adding elsewhere
    scaled = np.maximum(power, 0.0) / np.maximum(power, 0.0).mean()
    assert np.sum((density - power) ** 2) < np.sum((scaled - power) ** 2)


@pytest.mark.parametrize("shape", [(6, 7), (7, 6), (4, 8), (5, 5)])
def test_mean_products_are_counted_pair_by_pair(shape: tuple[int, int]) -> None:
    first, second = np.random.default_rng(6).random((2, 3, *shape))
    h, w = shape
    both = list(zip(first, second, strict=True))
    periodic = [oracles.counted_two_point(a, b, periodic=True) for a, b in both]
    found = mean_product(first, second, periodic=True)
    np.testing.assert_allclose(found, np.mean(periodic, axis=0), atol=1e-14)
    inside = [oracles.counted_two_point(a, b, periodic=False) for a, b in both]
    counted, found = np.mean(inside, axis=0), mean_product(first, second, periodic=False)
    for y, x in np.ndindex(shape):
        # Where a lag has several shortest ways around, the mean over them.
        ways = [
            counted[dy, dx]
            for dy in {y if 2 * y <= h else y - h, y - h if 2 * y >= h else y}
            for dx in {x if 2 * x <= w else x - w, x - w if 2 * x >= w else x}
        ]
        assert found[y, x] == pytest.approx(np.mean(ways), abs=1e-14)
    back = mean_product(second, first, periodic=False)
    np.testing.assert_allclose(found, opposite(back), atol=1e-15)
    same = mean_product(first, first, periodic=False)
    np.testing.assert_allclose(same, mean_product(first, first.copy(), periodic=False), atol=1e-15)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.2, 1.3, float("nan")])
def test_a_fraction_must_lie_between_0_and_1(fraction: float) -> None:
    with pytest.raises(InvalidInputError, match="between 0 and 1"):
        cut_two_point(RHO, fraction)


def test_statistics_that_nothing_has_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"correlation has 1\.2"):
        cut_two_point(np.array([0.1, 1.2]), 0.5)
    with pytest.raises(InvalidInputError, match=r"has 0\.5; expected finite values in \[0, 0\.3\]"):
        field_correlation(np.array([0.3, 0.5]), 0.3)
    with pytest.raises(InvalidInputError, match=r"has 0\.1; expected finite values in \[0\.6, 0"):
        field_correlation(np.array([0.8, 0.1]), 0.8)
    with pytest.raises(InvalidInputError, match="has nan"):
        field_correlation(np.array([np.nan]), 0.3)
    with pytest.raises(InvalidInputError, match="at lag 0"):
        SpectralField.of_two_point(np.full((4, 4), 0.25), 0.5)
    with pytest.raises(InvalidInputError, match="shape"):
        SpectralField.of_correlation(np.ones(4), 0.5)
    odd = np.zeros((4, 4))
    odd[0, 0], odd[0, 1] = 1.0, 0.5
    with pytest.raises(InvalidInputError, match="opposite"):
        SpectralField.of_correlation(odd, 0.5)
