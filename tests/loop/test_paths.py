"""Paths: exact ends, lengths against closed forms, every point of a feasible path feasible."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.composition import aitchison_distance, closure, euclidean_distance, replace_zeros
from loop.errors import InvalidInputError
from loop.paths import feasible_path, geodesic_path, path_length, positions, straight_path
from loop.polytope import CompositionSet
from loop.sampling import sample
from tests.loop.composition_sets import random_set

SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS)
@settings(deadline=None, max_examples=40)
def test_ends_are_exact_and_lengths_are_distances(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.dirichlet(np.ones(int(rng.integers(2, 31))), size=2)
    t = positions(21)
    line, geodesic = straight_path(a, b, t), geodesic_path(a, b, t)
    for path in (line, geodesic):
        assert np.array_equal(path[0], a)
        assert np.array_equal(path[-1], b)
        assert np.abs(path.sum(axis=1) - 1).max() <= 1e-14
    assert path_length(line) == pytest.approx(float(euclidean_distance(a, b)), rel=1e-12)
    expected = float(aitchison_distance(a, b))
    assert path_length(geodesic, aitchison=True) == pytest.approx(expected, rel=1e-10)


@given(SEEDS, st.booleans())
@settings(deadline=None, max_examples=25)
def test_a_feasible_path_is_feasible_everywhere(seed: int, geodesic: bool) -> None:
    space, _ = random_set(seed)
    a, b = sample(space, 2, np.random.default_rng(seed), steps=10)
    t = positions(9)
    path = feasible_path(a, b, t, space, geodesic=geodesic, delta=1e-3)
    assert space.is_feasible(path, tolerance=1e-9).all()
    assert np.array_equal(path[0], a)
    assert np.array_equal(path[-1], b)
    if not geodesic:  # the set is convex: the line is inside and is the shortest path
        assert path == pytest.approx(straight_path(a, b, t), abs=1e-12)
        assert path_length(path) == pytest.approx(float(euclidean_distance(a, b)), abs=1e-11)


def test_a_geodesic_leaves_the_set_and_is_brought_back() -> None:
    """Al is 0.45 at both ends and more between them, where the mean of the rest is less."""
    space = CompositionSet.of(("Ni", "Co", "Al"), ["Al <= 0.46"])
    a, b = np.array([0.5, 0.05, 0.45]), np.array([0.05, 0.5, 0.45])
    t = positions(11)
    free = geodesic_path(a, b, t)
    middle = np.sqrt(0.5 * 0.05)
    assert free[5, 2] == pytest.approx(0.45 / (0.45 + 2 * middle), rel=1e-14)
    outside = ~space.is_feasible(free)
    assert outside.sum() > 5
    inside = feasible_path(a, b, t, space, geodesic=True)
    assert space.is_feasible(inside).all()
    assert np.array_equal(inside[~outside], free[~outside])
    assert np.all(inside[outside, 2] == 0.46)
    assert np.all(np.diff(inside[:, 1]) > 0)  # the order is kept


def test_more_elements_than_allowed_between_two_alloys() -> None:
    space = CompositionSet.of(("Ni", "Co", "Al", "Cr"), ["at most 2 elements"])
    a, b = np.array([0.6, 0.4, 0.0, 0.0]), np.array([0.0, 0.0, 0.3, 0.7])
    path = feasible_path(a, b, positions(13), space)
    assert space.is_feasible(path).all()
    assert np.all((path > 0).sum(axis=1) <= 2)
    assert np.array_equal(path[[0, -1]], [a, b])
    same = np.array([0.1, 0.9, 0.0, 0.0])
    assert feasible_path(a, same, positions(5), space) == pytest.approx(
        straight_path(a, same, positions(5)), abs=1e-15
    )


def test_an_element_that_one_end_lacks() -> None:
    a, b = np.array([0.5, 0.5, 0.0]), np.array([0.3, 0.3, 0.4])
    t = positions(5)
    with pytest.raises(InvalidInputError, match="element number 2 is absent from one end only"):
        geodesic_path(a, b, t)
    path = geodesic_path(a, b, t, delta=1e-3)
    assert np.array_equal(path[[0, -1]], [a, b])  # the ends are the alloys themselves
    expected = geodesic_path(replace_zeros(a, 1e-3), b, t)
    assert path[1:] == pytest.approx(expected[1:], abs=1e-15)
    assert path_length(path, aitchison=True) == np.inf
    both = np.array([[0.4, 0.6, 0.0], [0.6, 0.4, 0.0]])
    assert np.all(geodesic_path(both[0], both[1], t, delta=1e-3)[:, 2] == 0)
    with pytest.raises(InvalidInputError, match="zero replacement is 2"):
        geodesic_path(a, b, t, delta=2.0)


def test_ends_that_are_not_compositions_yet_are_closed() -> None:
    assert np.array_equal(
        straight_path([2.0, 2.0], [1.0, 3.0], [0.0, 1.0]), [[0.5, 0.5], [0.25, 0.75]]
    )
    almost = closure([0.3, 0.7]) * (1 + 2e-10)  # within what a candidate may be off
    assert np.array_equal(straight_path(almost, [0.5, 0.5], [0.0])[0], almost)


def test_bad_input() -> None:
    space = CompositionSet.of(("Ni", "Al"), ["Al <= 0.4"])
    with pytest.raises(InvalidInputError, match=r"last composition is not allowed: Al <= 0.4 \(it"):
        feasible_path([0.7, 0.3], [0.5, 0.5], positions(3), space)
    with pytest.raises(InvalidInputError, match="path of 1 points"):
        positions(1)
    with pytest.raises(InvalidInputError, match="t lie outside"):
        geodesic_path([0.7, 0.3], [0.5, 0.5], [-0.1])
