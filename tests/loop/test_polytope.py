"""CompositionSet: what it allows, and how it says that it would be empty."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.constraints import Group
from loop.errors import InvalidInputError
from loop.polytope import CompositionSet
from tests.loop.composition_sets import random_set

ELEMENTS = ("Ni", "Co", "Al")


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(deadline=None, max_examples=40)
def test_words_and_back(seed: int, sparse: bool) -> None:
    space, inside = random_set(seed, sparse=sparse)
    assert space.is_feasible(inside)
    assert space.violations(inside) == []
    again = CompositionSet.of(space.elements, space.constraints)
    assert again.constraints == space.constraints
    assert np.array_equal(again.low, space.low)
    assert np.array_equal(again.high, space.high)
    copy = pickle.loads(pickle.dumps(space))
    assert copy == space
    assert hash(copy) == hash(space)


def test_violations_name_constraint_and_value() -> None:
    space = CompositionSet.of(
        ELEMENTS, ["Ni + Co >= 0.5", "Al <= 0.2", "Ni:Co = 2:1", "at most 2 elements"]
    )
    x = np.array([0.3, 0.1, 0.6])
    assert not space.is_feasible(x)
    assert space.violations(x) == [
        "Al <= 0.2 (it is 0.6)",
        "Ni + Co >= 0.5 (it is 0.4)",
        "Ni:Co = 2:1 (they are 0.3 and 0.1)",
        "at most 2 elements (there are 3)",
    ]
    assert space.violations(np.array([0.5, 0.25, 0.0])) == ["the sum is 0.75, expected 1"]
    assert "not finite" in space.violations(np.array([np.nan, 0.5, 0.5]))[0]
    assert not space.is_feasible([np.nan, 0.5, 0.5])
    with pytest.raises(InvalidInputError, match=r"expected \(\.\.\., 3\)"):
        space.is_feasible([0.5, 0.5])


@pytest.mark.parametrize(
    ("constraints", "conflict"),
    [
        (["Ni + Co >= 0.5", "Ni + Co <= 0.4", "Al <= 0.9"], "Ni + Co >= 0.5; Ni + Co <= 0.4"),
        (["Ni + Co >= 0.5", "Ni <= 0.2", "Co <= 0.2"], "Ni <= 0.2; Co <= 0.2; Ni + Co >= 0.5"),
        (["Ni <= 0.3", "Co <= 0.3", "Al <= 0.3"], "Ni <= 0.3; Co <= 0.3; Al <= 0.3; the sum of 1"),
        (
            ["at most 2 elements", "Ni >= 0.1", "Co >= 0.1", "Al >= 0.1"],
            "Ni >= 0.1; Co >= 0.1; Al >= 0.1; at most 2 elements",
        ),
        (["Ni:Co = 1:1", "Ni >= 0.6", "Al >= 0.01"], "Ni >= 0.6; Ni:Co = 1:1; the sum of 1"),
    ],
)
def test_an_empty_set_names_what_excludes_what(constraints: Sequence[str], conflict: str) -> None:
    with pytest.raises(InvalidInputError) as told:
        CompositionSet.of(ELEMENTS, constraints)
    assert f"exclude one another: {conflict}; widen one of them" in str(told.value)


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        (["Ni >= 0.5", "Ni <= 0.4"], "bounds of Ni contradict: 'Ni >= 0.5' and 'Ni <= 0.4'"),
        (["Ni >= 1.5"], r"bounds of Ni contradict: 'Ni >= 1.5' and its range \[0, 1\]"),
        (["W >= 0.1"], "constraint on W: no composition here has W"),
    ],
)
def test_bad_bounds(constraints: Sequence[str], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        CompositionSet.of(ELEMENTS, constraints)


def test_bad_elements() -> None:
    with pytest.raises(InvalidInputError, match="unknown element 'Nj'; did you mean"):
        CompositionSet(("Nj", "Al"))
    with pytest.raises(InvalidInputError, match="Ni is listed twice"):
        CompositionSet(("Ni", "Al", "Ni"))
    with pytest.raises(InvalidInputError, match="has no elements"):
        CompositionSet(())
    with pytest.raises(InvalidInputError, match=r"contradict: Ni >= 0\.5 and Ni <= 0\.4"):
        CompositionSet(("Ni",), {"Ni": (0.5, 0.4)})
    with pytest.raises(InvalidInputError, match=r"an atomic fraction is in \[0, 1\]"):
        CompositionSet(("Ni",), {"Ni": (-0.5, -0.1)})


def test_on_some_elements_only() -> None:
    space = CompositionSet.of(ELEMENTS, ["Ni + Co >= 0.5", "Ni:Al = 1:1"])
    part = space.on_support([0, 1])
    assert part.elements == ("Ni", "Co")
    assert part.bounds["Ni"] == (0.0, 0.0)  # its partner in the ratio is absent
    assert part.groups == (Group({"Ni": 1.0, "Co": 1.0}, 0.5),)
    with pytest.raises(InvalidInputError, match=r"without its elements Ni \+ Co >= 0.5"):
        space.on_support([2])
