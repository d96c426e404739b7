"""Constraints in words: read, written, refused."""

from __future__ import annotations

import math
import pickle

import pytest

from loop.constraints import (
    AtMost,
    Constraint,
    Group,
    Ratio,
    foreign_element,
    parse_constraint,
    sum_conflict,
)
from loop.errors import InvalidInputError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Al <= 0.3", Group({"Al": 1.0}, high=0.3)),
        ("0.3 >= Al", Group({"Al": 1.0}, high=0.3)),
        ("Al ≥ 5 %", Group({"Al": 1.0}, low=0.05)),
        ("0.5 <= Ni + Co <= 80 at%", Group({"Ni": 1.0, "Co": 1.0}, 0.5, 0.8)),
        ("0.8 >= Ni+Co >= .5", Group({"Ni": 1.0, "Co": 1.0}, 0.5, 0.8)),
        ("Ni - 2 Co + 0.5*Al = 0.1", Group({"Ni": 1.0, "Co": -2.0, "Al": 0.5}, 0.1, 0.1)),
        ("Ni:Al = 3:1", Ratio("Ni", "Al", 3.0, 1.0)),
        ("at most 5 elements", AtMost(5)),
        ("At most 1 element", AtMost(1)),
    ],
)
def test_words_and_back(text: str, expected: Constraint) -> None:
    assert parse_constraint(text) == expected
    assert parse_constraint(expected.text) == expected
    assert pickle.loads(pickle.dumps(expected)) == expected
    assert hash(parse_constraint(expected.text)) == hash(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Nj >= 0.2", "unknown element 'Nj'; did you mean"),
        ("Ni < 0.2", "has '<'; write <="),
        ("Ni <= 5 wt%", "is by weight"),
        ("Ni + Ni >= 0.5", "names Ni twice"),
        ("Ni + >= 0.5", "cannot be read at"),
        ("Ni Co >= 0.5", "cannot be read at 'Co'"),
        ("Ni", "cannot be read"),
        ("0.2 <= Ni >= 0.1", "cannot be read"),
        ("Ni >= Co", "'Co' is no amount"),
        ("0.5 <= Ni <= 0.4", "bounds that contradict: 0.5 is above 0.4"),
        ("Ni:Ni = 1:2", "to itself"),
        ("Ni:Al = 0:2", "the amount 0; expected finite amounts"),
        ("at most 0 elements", "at most 0 elements; expected at least 1"),
        ("0 Ni >= 0.5", "weight of Ni is 0"),
        ("<= 0.5", "names no element"),
        ("Al <= 0,4", "constraint 'Al <= 0,4' has a decimal comma; write 'Al <= 0.4'"),
        ("Ni:Al = 2,5:1", "has a decimal comma; write 'Ni:Al = 2.5:1'"),
        ("Nickel >= 0.2", "unknown element 'Nickel'; did you mean 'Ni'"),
    ],
)
def test_what_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        parse_constraint(text)


def test_an_element_that_none_has_is_no_unknown_one() -> None:
    told = foreign_element("Ti", ("Ni", "Al"))
    assert told.startswith("constraint on Ti: no composition here has Ti, only Ni, Al")
    assert "unknown" not in told
    assert "unknown element 'Nj'; did you mean 'Ni'" in foreign_element("Nj", ("Ni", "Al"))


def test_bounds_that_cannot_sum_to_one_name_the_elements() -> None:
    names = ("Ni", "Al", "Cr")
    told = sum_conflict(names, (0.6, 0.5, 0.0), (1.0, 1.0, 1.0))
    assert told == (
        "lower bounds sum to 1.1 (Ni 0.6, Al 0.5); expected at most 1: lower one of them"
    )
    told = sum_conflict(names, (0.0, 0.0, 0.0), (0.5, 0.4, 0.0))
    assert told == (
        "upper bounds sum to 0.9 (Ni 0.5, Al 0.4, Cr 0); expected at least 1: raise one of them"
    )
    assert sum_conflict(names, (0.5, 0.5, 0.0), (0.5, 0.5, 0.0)) is None
    assert sum_conflict(names, (0.5, 0.5 + 1e-9, 0.0), (1.0, 1.0, 1.0), tolerance=1e-6) is None


def test_groups_are_checked_when_built() -> None:
    with pytest.raises(InvalidInputError, match="no elements"):
        Group({}, 0.0, 1.0)
    with pytest.raises(InvalidInputError, match="has no bound"):
        Group({"Ni": 1.0})
    with pytest.raises(InvalidInputError, match="weight of Ni is inf"):
        Group({"Ni": math.inf}, 0.5)
    with pytest.raises(TypeError):
        Group({"Ni": 1.0}, 0.5).weights["Ni"] = 2.0  # type: ignore[index]
