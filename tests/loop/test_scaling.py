"""Property scales: round trips, unit variance, slopes, what is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.scaling import PropertyScale, spreads


def columns(n: int = 500) -> np.ndarray:
    """A normal, a skewed positive, a constant, a skewed but partly negative column."""
    rng = np.random.default_rng(3)
    skewed = np.exp(rng.normal(size=n))
    return np.column_stack([rng.normal(200, 5, n), 3 * skewed, np.full(n, 7.5), skewed - 0.2])


def test_the_logarithm_is_taken_of_skewed_positive_columns_only() -> None:
    assert PropertyScale.fit(columns()).log.tolist() == [False, True, False, False]


def test_scaled_columns_have_zero_mean_and_unit_variance() -> None:
    z = PropertyScale.fit(columns()).forward(columns())
    assert z.mean(0) == pytest.approx(np.zeros(4), abs=1e-9)
    assert z.std(0) == pytest.approx([1.0, 1.0, 0.0, 1.0])


def test_a_log_normal_column_becomes_normal() -> None:
    """Of a log-normal the scaled values are (log x − µ)/σ with µ, σ of the sample."""
    values = columns()
    z = PropertyScale.fit(values).forward(values)[:, 1]
    logs = np.log(values[:, 1])
    assert z == pytest.approx((logs - logs.mean()) / logs.std())


@given(st.integers(0, 2**32 - 1))
def test_round_trip(seed: int) -> None:
    scale = PropertyScale.fit(columns())
    values = np.abs(np.random.default_rng(seed).normal(size=(5, 4))) * [200, 3, 7, 1] + 1e-3
    assert scale.inverse(scale.forward(values)) == pytest.approx(values, rel=1e-9)
    z = np.random.default_rng(seed).normal(size=(5, 4))
    assert scale.forward(scale.inverse(z)) == pytest.approx(z, abs=1e-9)


def test_slope_is_the_derivative_of_the_inverse() -> None:
    scale, z, h = PropertyScale.fit(columns()), np.linspace(-2, 2, 20).reshape(5, 4), 1e-5
    difference = (scale.inverse(z + h) - scale.inverse(z - h)) / (2 * h)
    assert scale.slope(z) == pytest.approx(difference, rel=1e-6)


def test_unknown_entries_are_left_out_and_stay_unknown() -> None:
    values = columns()
    gaps = values.copy()
    gaps[::3, 0] = np.nan
    gaps[:, 2] = np.nan
    scale = PropertyScale.fit(gaps)
    kept = gaps[np.isfinite(gaps[:, 0]), 0]
    assert scale.mean[0] == pytest.approx(kept.mean())
    assert scale.std[0] == pytest.approx(kept.std())
    assert (scale.mean[2], scale.std[2]) == (0.0, 1.0)  # nothing known: left as it is
    assert np.array_equal(np.isnan(scale.forward(gaps)), np.isnan(gaps))


def test_a_column_that_only_rounding_moves_counts_as_constant() -> None:
    values = 0.1 + 1e-17 * np.arange(50.0)[:, None] + np.array([[0.0]])
    scale = PropertyScale.fit(values * 3.0)
    assert scale.std[0] == 1.0


@pytest.mark.parametrize("unit", [1e-16, 1e-3, 1e16])
def test_the_unit_of_a_property_makes_no_difference(unit: float) -> None:
    """Same choice of logarithm, same constant columns, same standardised values.

    A value times the unit rounds to 2e-16 of itself, 1e-14 of a spread that is a fortieth of the
    mean; the logarithm of 1e16 or 1e-16 is 37 and rounds to 7e-15.
    """
    values = columns()
    one, other = PropertyScale.fit(values), PropertyScale.fit(values * unit)
    assert other.log.tolist() == one.log.tolist()
    assert (other.std == 1.0).tolist() == [False, False, True, False]
    z = one.forward(values)
    assert other.forward(values * unit)[:, [0, 1, 3]] == pytest.approx(z[:, [0, 1, 3]], abs=1e-12)
    assert other.inverse(z) == pytest.approx(values * unit, rel=1e-9)


@given(st.integers(-60, 60))
def test_of_powers_of_two_the_standardised_values_are_the_same_bits(power: int) -> None:
    """Without the logarithm: a power of two moves exponents alone."""
    values = columns()[:, [0, 3]]
    one, other = PropertyScale.fit(values), PropertyScale.fit(values * 2.0**power)
    assert np.array_equal(other.forward(values * 2.0**power), one.forward(values))


def test_zero_throughout_is_constant_and_stays_zero() -> None:
    scale = PropertyScale.fit(np.zeros((5, 1)))
    assert (scale.mean[0], scale.std[0]) == (0.0, 1.0)
    assert np.array_equal(scale.forward(np.zeros((2, 1))), np.zeros((2, 1)))


def test_spreads_are_told_by_ratios_in_any_unit() -> None:
    """1e-9 of the greatest amount is rounding; below ``floor`` nothing counts."""
    values = columns()
    values[::7, 0] = np.nan
    expected = np.nanstd(values, axis=0)
    expected[2] = 1.0
    for unit in (1.0, 2.0**-60, 2.0**40):
        found = spreads(unit * values)
        np.testing.assert_array_equal(found, np.where(expected == 1.0, 1.0, unit * expected))
    rounded = 1e6 + np.array([[0.0], [1e-10], [2e-10]])
    assert spreads(rounded).tolist() == [1.0]
    nearly = np.array([[1e-17], [-2e-17], [0.0]])
    assert spreads(nearly, 1e-12).tolist() == [1.0]
    assert spreads(nearly) < 1e-16
