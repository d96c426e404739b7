"""Bounds from fractions: limits, attained cases, order."""

from __future__ import annotations

import numpy as np
import pytest

from loop.errors import InvalidInputError
from simulators.bounds import hashin_shtrikman, wiener


def test_two_phases_by_hand() -> None:
    low, high = wiener([0.25, 0.75], [1.0, 5.0])
    assert (float(low), float(high)) == pytest.approx((2.5, 4.0))
    low, high = hashin_shtrikman([0.25, 0.75], [1.0, 5.0])
    # Coated circles: k1 + f2 / (1 / (k2 - k1) + f1 / (2 k1)), and with the phases exchanged.
    assert float(low) == pytest.approx(1 + 0.75 / (1 / 4 + 0.25 / 2))
    assert float(high) == pytest.approx(5 + 0.25 / (1 / -4 + 0.75 / 10))


def test_order_of_the_bounds() -> None:
    rng = np.random.default_rng(0)
    f = rng.dirichlet(np.ones(4), 200)
    k = 10 ** rng.uniform(-2, 2, (200, 4))
    wiener_low, wiener_high = wiener(f, k)
    low, high = hashin_shtrikman(f, k)
    assert np.all(wiener_low < low)
    assert np.all(low < high)
    assert np.all(high < wiener_high)


def test_an_absent_phase_does_not_count() -> None:
    expected = hashin_shtrikman([0.5, 0.5], [1.0, 2.0])
    np.testing.assert_allclose(hashin_shtrikman([0.5, 0.5, 0.0], [1.0, 2.0, 1e6]), expected)
    np.testing.assert_allclose(hashin_shtrikman([0.0, 1.0], [1e-6, 3.0]), (3.0, 3.0))


def test_equal_phases_leave_no_gap() -> None:
    np.testing.assert_allclose(hashin_shtrikman([0.3, 0.7], [4.0, 4.0]), (4.0, 4.0))


@pytest.mark.parametrize(
    ("fractions", "values", "message"),
    [
        ([0.5, 0.6], [1.0, 1.0], "do not sum to 1"),
        ([1.5, -0.5], [1.0, 1.0], "negative"),
        ([0.5, 0.5], [1.0, 0.0], "not finite and > 0"),
        ([0.5, 0.5], [1.0, 2.0, 3.0], "expected equal"),
    ],
)
def test_wrong_input_is_named(fractions: list[float], values: list[float], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        wiener(fractions, values)
