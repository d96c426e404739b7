"""The nearest feasible composition: certificates, an independent optimiser, enumeration."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, minimize

from loop.composition import FloatArray, project_to_bounds
from loop.errors import InvalidInputError
from loop.polytope import CompositionSet, feasible_point
from loop.projection import project
from tests.loop.composition_sets import random_set


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.05, 0.5, 5.0]))
@settings(deadline=None, max_examples=60)
def test_projection_is_feasible_and_nearest(seed: int, spread: float) -> None:
    """y is nearest iff (x - y)(z - y) <= 0 for all z of the convex set: a linear programme."""
    space, inside = random_set(seed)
    rng = np.random.default_rng(seed)
    x = inside + spread * rng.normal(size=(3, space.size))
    y = project(x, space)
    assert space.is_feasible(y, tolerance=1e-9).all()
    for one, nearest in zip(x, y, strict=True):
        away = one - nearest
        farthest = feasible_point(space.all_rows(), space.size, objective=-away)
        assert farthest is not None
        # The programme itself keeps constraints to 1e-7 (HiGHS), seen through |x - y| and groups.
        assert away @ (farthest - nearest) <= 1e-6 * max(1.0, float(np.abs(away).sum()))
    assert project(y, space) == pytest.approx(y, abs=1e-12)


def test_projection_agrees_with_a_general_optimiser() -> None:
    space = CompositionSet.of(
        ("Ni", "Co", "Al", "Cr", "Fe", "Ti"),
        ["Ni + Co >= 0.5", "Al <= 0.2", "Cr:Fe = 2:1", "0.05 <= Ti <= 0.3", "Ni - Co >= 0.1"],
    )
    x = np.random.default_rng(0).normal(1 / 6, 0.3, size=(12, 6))
    rows = space.rows
    equal = rows.low == rows.high
    given_rows = [
        LinearConstraint(np.vstack([np.ones(6), rows.matrix[equal]]), [1.0, 0.0], [1.0, 0.0]),
        LinearConstraint(rows.matrix[~equal], rows.low[~equal], np.inf),
    ]
    for one, nearest in zip(x, project(x, space), strict=True):

        def half_square(z: FloatArray, one: FloatArray = one) -> float:
            return float(0.5 * np.sum((z - one) ** 2))

        found = minimize(
            half_square,
            np.full(6, 1 / 6),
            bounds=Bounds(space.low, space.high),
            constraints=given_rows,
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert nearest == pytest.approx(found.x, abs=1e-6)


def test_closed_forms() -> None:
    # Half of what Ni + Co lack goes to each; the others give it up evenly.
    space = CompositionSet.of(("Ni", "Co", "Al", "Cr"), ["Ni + Co >= 0.5"])
    assert project([0.1, 0.2, 0.4, 0.3], space) == pytest.approx([0.2, 0.3, 0.3, 0.2], abs=1e-15)
    # Onto Ni : Al = 3 : 1 alone only one composition is left.
    pair = CompositionSet.of(("Ni", "Al"), ["Ni:Al = 3:1"])
    assert project([0.1, 0.9], pair) == pytest.approx([0.75, 0.25], abs=1e-15)
    inside = np.array([0.4, 0.35, 0.25, 0.0])
    assert np.array_equal(project(inside, space), inside)  # what is allowed is not touched


def test_bounds_alone_are_projected_as_bounds() -> None:
    space = CompositionSet(("Ni", "Co", "Al"), {"Ni": (0.2, 0.5), "Al": (0.0, 0.4)})
    x = np.random.default_rng(1).normal(1 / 3, 0.5, size=(4, 5, 3))
    expected = project_to_bounds(x, space.low, space.high)
    assert project(x, space) == pytest.approx(expected, abs=1e-15)


# At most k elements


def _nearest_by_enumeration(x: FloatArray, space: CompositionSet) -> float:
    assert space.at_most is not None
    best = np.inf
    for support in combinations(range(space.size), space.at_most):
        try:
            part = space.on_support(support)
            y = project(x[list(support)], part)
        except InvalidInputError:
            continue
        gone = np.delete(x, list(support))
        best = min(best, float(np.sum((y - x[list(support)]) ** 2) + np.sum(gone**2)))
    return best


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=25)
def test_the_nearest_of_all_supports_is_found(seed: int) -> None:
    space, inside = random_set(seed, most=7, sparse=True)
    x = inside + 0.2 * np.random.default_rng(seed).normal(size=space.size)
    y = project(x, space, nodes=10_000)
    assert space.is_feasible(y)
    assert np.sum((y - x) ** 2) == pytest.approx(_nearest_by_enumeration(x, space), abs=1e-9)


def test_elements_that_are_alike_keep_the_largest() -> None:
    space = CompositionSet.of(("Ni", "Co", "Al", "Cr", "Fe"), ["at most 2 elements"])
    y = project([0.3, 0.1, 0.35, 0.2, 0.05], space)
    assert y == pytest.approx([0.475, 0.0, 0.525, 0.0, 0.0], abs=1e-15)
    assert np.count_nonzero(y) == 2
    x = np.random.default_rng(2).dirichlet(np.ones(5), size=20)
    for one, nearest in zip(x, project(x, space), strict=True):
        distance = np.sum((nearest - one) ** 2)
        assert distance == pytest.approx(_nearest_by_enumeration(one, space), abs=1e-12)


def test_a_search_that_is_cut_short_still_ends_in_the_set() -> None:
    space, inside = random_set(11, most=30, sparse=True)
    x = inside + 0.3 * np.random.default_rng(3).normal(size=(3, space.size))
    cut, full = project(x, space, nodes=0), project(x, space)
    assert space.is_feasible(cut).all()
    assert np.all(np.sum((full - x) ** 2, axis=1) <= np.sum((cut - x) ** 2, axis=1) + 1e-12)


def test_bad_input() -> None:
    space = CompositionSet(("Ni", "Al"))
    with pytest.raises(InvalidInputError, match=r"expected \(\.\.\., 2\)"):
        project([0.5, 0.2, 0.3], space)
    with pytest.raises(InvalidInputError, match="not finite"):
        project([np.nan, 0.5], space)
    assert project(np.zeros((0, 2)), space).shape == (0, 2)
