"""Compositions in words: amounts, fractions, percent, designations, and what they must not be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pymatgen.core import Composition

from loop.errors import InvalidInputError
from loop.formula import canonical_text, parse_composition, read_composition

ELEMENTS = ("Ni", "Al", "Cr", "Co", "Re")

rows = hnp.arrays(np.float64, 5, elements=st.one_of(st.just(0.0), st.floats(1e-6, 1.0))).filter(
    lambda x: float(x.sum()) > 0
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Al0.3CoCrFeNi", {"Al": 0.3 / 4.3, **dict.fromkeys(("Co", "Cr", "Fe", "Ni"), 1 / 4.3)}),
        ("Fe0.4Ni0.6", {"Fe": 0.4, "Ni": 0.6}),
        ("Cr23C6", {"Cr": 23 / 29, "C": 6 / 29}),
        ("Ni-20Cr at%", {"Ni": 0.8, "Cr": 0.2}),
        ("Ni80 Cr20 at.%", {"Ni": 0.8, "Cr": 0.2}),
        ("Ni 80 at%, Cr 20 at%", {"Ni": 0.8, "Cr": 0.2}),
        ("80Ni-20Cr mol%", {"Ni": 0.8, "Cr": 0.2}),
        ("NiAl0", {"Ni": 1.0}),
    ],
)
def test_atomic_fractions_in_words(text: str, expected: dict[str, float]) -> None:
    assert parse_composition(text) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    "text",
    ["Ti-6Al-4V wt%", "Ti90Al6V4 wt.%", "90Ti-6Al-4V mass%", "Ti 90 wt %, Al 6 wt %, V 4 wt %"],
)
def test_weight_percent_is_what_pymatgen_makes_of_it(text: str) -> None:
    theirs = Composition.from_weight_dict({"Ti": 90, "Al": 6, "V": 4}).fractional_composition
    assert parse_composition(text) == pytest.approx(theirs.as_dict(), abs=1e-15)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Fe0.5Ni0.6", "sums to 1.1; expected 1: mend it, or ask for it to be normalised"),
        ("Fe50Ni60", "sums to 110; expected 100"),
        ("Ni80Cr30 at%", "sums to 110; expected 100"),
        ("90Ti-6Al-5V wt%", "sums to 101; expected 100"),
        ("Ti-6Al-4V", "does not say percent of what; write 'Ti-6Al-4V' with wt% or at%"),
        ("Ni80Cr20 %", "does not say percent of what"),
        ("Fe 50 at%, Ni 50 wt%", "mixes weight and atomic percent"),
        ("Ti-6Al-4Al wt%", "names Al twice"),
        ("Ni0.5Ni0.5", "names Ni twice"),
        ("Ni50Ni50 at%", "names Ni twice"),
        ("Ti-60Al-50V wt%", "leaves -10 % to Ti"),
        ("Ti-6Ax wt%", "unknown element 'Ax'; did you mean"),
        ("Xx2Fe", "unknown element 'Xx'; did you mean 'Xe'"),
        ("Al0,3Fe", "cannot be read at ',3Fe'"),
        ("wt%", "holds no element"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        parse_composition(text)


def test_normalised_only_when_told() -> None:
    assert parse_composition("Fe0.5Ni0.6", normalise=True) == pytest.approx(
        {"Fe": 5 / 11, "Ni": 6 / 11}, abs=1e-15
    )
    # Rounded figures are no other sum.
    thirds = parse_composition("Fe0.333333Ni0.333333Co0.333333")
    assert thirds == pytest.approx(dict.fromkeys(("Fe", "Ni", "Co"), 1 / 3), abs=1e-15)


@given(rows, st.booleans())
@settings(deadline=None)
def test_canonical_text_round_trip(x: NDArray[np.float64], by_weight: bool) -> None:
    x = x / x.sum()
    text = canonical_text(x, ELEMENTS, by_weight=by_weight)
    back = read_composition(text, ELEMENTS)
    assert np.array_equal(back == 0, x == 0)
    assert np.abs(back - x).max() <= 1e-12
    assert canonical_text(x[::-1], ELEMENTS[::-1], by_weight=by_weight) == text


def test_canonical_text_is_by_alphabet() -> None:
    assert canonical_text([3.0, 1.0, 0.0, 0.0, 0.0], ELEMENTS) == "Al0.25Ni0.75"
    assert canonical_text([1.0, 0, 0, 0, 0], ELEMENTS, by_weight=True) == "Ni100 wt%"
    with pytest.raises(InvalidInputError, match="unknown element 'Fe'"):
        read_composition("FeNi", ELEMENTS)
