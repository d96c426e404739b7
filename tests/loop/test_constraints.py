"""Constraints in words: read, written, refused."""

from __future__ import annotations

import math
import pickle

import pytest

from loop.constraints import AtMost, Constraint, Group, Ratio, parse_constraint
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
    ],
)
def test_what_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        parse_constraint(text)


def test_groups_are_checked_when_built() -> None:
    with pytest.raises(InvalidInputError, match="no elements"):
        Group({}, 0.0, 1.0)
    with pytest.raises(InvalidInputError, match="has no bound"):
        Group({"Ni": 1.0})
    with pytest.raises(InvalidInputError, match="weight of Ni is inf"):
        Group({"Ni": math.inf}, 0.5)
    with pytest.raises(TypeError):
        Group({"Ni": 1.0}, 0.5).weights["Ni"] = 2.0  # type: ignore[index]
