"""Monotone paths: properties in closed form, so that every value can be computed anew."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.composition import FloatArray
from loop.errors import InvalidInputError
from loop.monotone import monotone_path, moves_one_way
from loop.paths import feasible_path, geodesic_path, positions, straight_path
from loop.polytope import CompositionSet
from loop.sampling import sample

ELEMENTS = ("Ni", "Co", "Al", "Cr")
FREE = CompositionSet.of(ELEMENTS)
A, B = np.array([0.7, 0.1, 0.1, 0.1]), np.array([0.1, 0.5, 0.2, 0.2])


def quadratic(
    curve: FloatArray, slope: FloatArray
) -> Callable[[FloatArray, FloatArray], FloatArray]:
    """x curve x / 2 + slope x of every phase's composition, summed."""

    def values(x: FloatArray, _: FloatArray) -> FloatArray:
        found: FloatArray = np.einsum("mpe,ef,mpf->m", x, curve, x) / 2 + (x @ slope).sum(axis=1)
        return found

    return values


def bump(x: FloatArray, _: FloatArray) -> FloatArray:
    """Entropy of mixing over R, and a little of the chromium."""
    logs = np.log(np.where(x > 0, x, 1.0))
    found: FloatArray = -(x * logs).sum(axis=(1, 2)) + 0.5 * x[:, 0, 3]
    return found


def slopes(x: FloatArray, _: FloatArray) -> FloatArray:
    found = -np.log(np.where(x > 0, x, 1.0)) - 1
    found[..., 3] += 0.5
    return found


def rising(values: FloatArray) -> bool:
    return bool(np.all(np.diff(values) * np.sign(values[-1] - values[0]) > 0))


@pytest.mark.parametrize("derivative", [slopes, None])
def test_a_bump_is_taken_out(derivative: Callable[..., FloatArray] | None) -> None:
    t = positions(17)
    line = straight_path(A, B, t)[:, None]
    before = bump(line, t)
    assert before.max() > max(before[0], before[-1]) + 0.02  # it rises above both ends
    found = monotone_path(line, t, bump, [FREE], gradients=derivative)
    assert rising(bump(found.path, t))
    assert np.array_equal(found.values, bump(found.path, t))
    assert np.array_equal(found.path[[0, -1]], line[[0, -1]])
    assert FREE.is_feasible(found.path[:, 0]).all()
    assert found.moved.max() < 0.35
    assert np.abs(np.diff(found.path, axis=0)).max() < 0.2  # and does not jump


def test_a_monotone_path_is_left_alone() -> None:
    t = positions(9)
    line = straight_path(A, B, t)[:, None]
    found = monotone_path(line, t, lambda x, _: x[:, 0, 1] ** 3, [FREE])
    assert np.array_equal(found.path, line)
    assert not found.moved.any()


def test_one_step_is_exact_where_the_property_is_linear() -> None:
    """The nearest point with w x = c is x + (c - w x) w / |w|², w less its mean."""
    weights = np.array([1.0, -2.0, 0.5, 3.0])
    t = positions(3)
    start = straight_path(A, B, t)[:, None]
    start[1, 0] = [0.25, 0.25, 0.25, 0.25]
    start[1, 0] += [-0.1, -0.05, 0.0, 0.15]

    def values(x: FloatArray, _: FloatArray) -> FloatArray:
        found: FloatArray = (x @ weights)[:, 0]
        return found

    assert values(start, t)[1] > values(start, t)[[0, 2]].max()
    found = monotone_path(start, t, values, [FREE])
    w = weights - weights.mean()
    moved = found.path[1, 0] - start[1, 0]
    assert moved == pytest.approx(w * (moved @ w) / (w @ w), abs=1e-9)
    assert rising(found.values)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_random_properties_within_bounds_and_groups(seed: int) -> None:
    """Either monotone and feasible, or an error that names a position."""
    rng = np.random.default_rng(seed)
    words = ["Ni + Co >= 0.3", "Al <= 0.4", "Cr >= 0.02", "Al + Cr <= 0.6"]
    space = CompositionSet.of(ELEMENTS, words)
    a, b = sample(space, 2, rng, steps=10)
    curve = rng.normal(size=(4, 4))
    values = quadratic(4 * (curve + curve.T), rng.normal(size=4))
    t = positions(33)
    path = feasible_path(a, b, t, space, geodesic=bool(seed % 2), delta=1e-3)[:, None]
    try:
        found = monotone_path(path, t, values, [space])
    except InvalidInputError:
        with pytest.raises(InvalidInputError, match=r"t = |at both ends"):
            monotone_path(path, t, values, [space])
        return
    again = np.diff(values(found.path, t)) * np.sign(found.values[-1] - found.values[0])
    assert np.all(again > -1e-8 * np.abs(found.values).max())
    assert space.is_feasible(found.path[:, 0]).all()
    assert np.array_equal(found.path[[0, -1]], path[[0, -1]])


def test_most_random_properties_can_be_mended() -> None:
    mended = refused = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        a, b = rng.dirichlet(np.full(4, 3.0), size=2)
        curve = rng.normal(size=(4, 4))
        values = quadratic(6 * (curve + curve.T), rng.normal(size=4))
        t = positions(33)
        path = straight_path(a, b, t)[:, None]
        before = values(path, t)
        if rising(before):
            continue
        try:
            found = monotone_path(path, t, values, [FREE])
        except InvalidInputError:
            refused += 1
            continue
        assert rising(values(found.path, t))
        mended += 1
    assert mended >= 8
    assert mended >= 2 * refused


def test_absent_elements_stay_absent_and_phases_move_together() -> None:
    a = np.array([[0.7, 0.1, 0.2, 0.0], [0.5, 0.0, 0.3, 0.2]])
    b = np.array([[0.1, 0.5, 0.4, 0.0], [0.1, 0.0, 0.5, 0.4]])
    t = positions(17)
    path = straight_path(a, b, t)

    def both(x: FloatArray, t: FloatArray) -> FloatArray:
        return bump(x[:, :1], t) + bump(x[:, 1:], t)

    assert not rising(both(path, t))
    found = monotone_path(path, t, both, [FREE, FREE])
    assert rising(both(found.path, t))
    assert np.all(found.path[:, 0, 3] == 0)
    assert np.all(found.path[:, 1, 1] == 0)
    assert FREE.is_feasible(found.path).all()
    assert np.abs(found.path - path)[:, 0].max() > 1e-3  # neither phase has to do it alone
    assert np.abs(found.path - path)[:, 1].max() > 1e-3


def test_two_elements_leave_no_way_around() -> None:
    """Along Ni-Co alone the entropy has to pass its greatest value, ln 2 halfway."""
    space = CompositionSet.of(("Ni", "Co"))
    t = positions(21)
    path = straight_path([0.9, 0.1], [0.2, 0.8], t)[:, None]

    def entropy(x: FloatArray, _: FloatArray) -> FloatArray:
        found: FloatArray = -(x * np.log(x)).sum(axis=(1, 2))
        return found

    with pytest.raises(InvalidInputError, match=r"entropy .*t = 0\.\d+.*0\.6"):
        monotone_path(path, t, entropy, [space], name="entropy")


def test_walls_that_are_in_the_way_are_named_with_value_and_position() -> None:
    """With Al and Cr held, only Ni against Co is left."""
    space = CompositionSet.of(ELEMENTS, ["Al = 0.1", "Cr = 0.1"])
    t = positions(15)
    path = straight_path([0.75, 0.05, 0.1, 0.1], [0.2, 0.6, 0.1, 0.1], t)[:, None]
    with pytest.raises(InvalidInputError, match=r"at t = |from t = "):
        monotone_path(path, t, bump, [space])


def test_equal_ends_and_values_that_are_missing() -> None:
    t = positions(5)
    path = straight_path([0.7, 0.3], [0.3, 0.7], t)[:, None]
    space = CompositionSet.of(("Ni", "Co"))

    def product(x: FloatArray, _: FloatArray) -> FloatArray:
        found: FloatArray = x[:, 0].prod(axis=1)
        return found

    with pytest.raises(InvalidInputError, match=r"is 0\.21 at both ends and 0\.25 between"):
        monotone_path(path, t, product, [space], name="density")

    def hollow(x: FloatArray, t: FloatArray) -> FloatArray:
        return np.where(np.abs(t - 0.5) < 0.1, np.nan, x[:, 0, 0])

    with pytest.raises(InvalidInputError, match=r"the point at t = 0\.5 has no density"):
        monotone_path(path, t, hollow, [space], name="density")


def test_many_elements_along_a_geodesic() -> None:
    elements = ("Ni", "Co", "Al", "Cr", "Fe", "Ti", "Mo", "W", "Ta", "Re")
    space = CompositionSet.of(elements, ["Ni + Co >= 0.2", "Re <= 0.2"])
    few = np.full(10, 0.02)
    a, b = few + 0.8 * np.eye(10)[0], few + 0.6 * np.eye(10)[4] + 0.2 * np.eye(10)[1]
    t = positions(21)
    path = geodesic_path(a, b, t)[:, None]

    def spread(x: FloatArray, _: FloatArray) -> FloatArray:
        found: FloatArray = 1 - (x**2).sum(axis=(1, 2))
        return found

    assert not rising(spread(path, t))
    found = monotone_path(path, t, spread, [space])
    assert rising(spread(found.path, t))
    assert space.is_feasible(found.path[:, 0]).all()


def test_which_values_move_one_way() -> None:
    assert moves_one_way(np.array([1.0, 1.0, 2.0]))
    assert moves_one_way(np.array([3.0, 2.0, -1.0]))
    assert moves_one_way(np.array([1.0, 2.0, 2.0 - 1e-12, 3.0]))  # by rounding alone
    assert not moves_one_way(np.array([1.0, 3.0, 2.0]))
    assert not moves_one_way(np.array([2.0, 1.0, 2.0]))
    assert not moves_one_way(np.array([1.0, np.nan, 2.0]))
