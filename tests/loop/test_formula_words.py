"""Compositions in words: amounts, fractions, percent, designations, and what they must not be."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pymatgen.core import Composition

from loop.errors import InvalidInputError
from loop.formula import canonical_text, formula_amounts, parse_composition, read_composition

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
        ("Ni80,Cr20 at%", {"Ni": 0.8, "Cr": 0.2}),
        ("Ni80Cr20 (at%)", {"Ni": 0.8, "Cr": 0.2}),
        ("Ni0.8Cr0.2 atomic fraction", {"Ni": 0.8, "Cr": 0.2}),
        ("Ni80Cr20", {"Ni": 0.8, "Cr": 0.2}),
        # Ratios, though large: compounds in lowest terms, and names of HEAs.
        ("Mg17Al12", {"Mg": 17 / 29, "Al": 12 / 29}),
        ("NaZn13", {"Na": 1 / 14, "Zn": 13 / 14}),
        ("Nd2Fe14B", {"Nd": 2 / 17, "Fe": 14 / 17, "B": 1 / 17}),
        ("Ti2ZrNb", {"Ti": 0.5, "Zr": 0.25, "Nb": 0.25}),
        ("Fe5Ni5", {"Fe": 0.5, "Ni": 0.5}),
    ],
)
def test_atomic_fractions_in_words(text: str, expected: dict[str, float]) -> None:
    assert parse_composition(text) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    "text",
    [
        "Ti-6Al-4V wt%",
        "Ti90Al6V4 wt.%",
        "90Ti-6Al-4V mass%",
        "Ti 90 wt %, Al 6 wt %, V 4 wt %",
        "Ti0.9Al0.06V0.04 wt%",
        "Ti0.9Al0.06V0.04 (mass fraction)",
        "Ti-6Al-4V (weight percent)",
    ],
)
def test_weight_percent_is_what_pymatgen_makes_of_it(text: str) -> None:
    theirs = Composition.from_weight_dict({"Ti": 90, "Al": 6, "V": 4}).fractional_composition
    assert parse_composition(text) == pytest.approx(theirs.as_dict(), abs=1e-15)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Fe0.5Ni0.6", "sums to 1.1; expected 1: mend it, or have it scaled .* with --normalise"),
        ("Fe60Ni60", "sums to 120; expected 100 .numbers this large are read as percent"),
        ("Fe120Ni20", "sums to 140; expected 100 .*--normalise"),
        ("Fe60Ni20Mo5", "sums to 85; expected 100"),
        ("Fe30Ni10", "sums to 40; expected 100"),
        ("Fe0.5Ni0.6 wt%", "sums to 1.1; expected 1:"),
        ("Ti0.9Al0.1 percent", "does not say percent of what|cannot be read"),
        ("Ti6Al4V", "would be 6 Ti to 4 Al.*write 'Ti-6Al-4V wt%' for that, 'Ti6Al4V1' for the"),
        ("Ti5Al2.5Sn", "write 'Ti-5Al-2.5Sn wt%'"),
        ("CuZn37", "would have 37 Zn for one.*as in 'Cu-37Zn wt%'.*--normalise"),
        ("AlSi10Mg", "would have 10 Si for one of another element; if these are percent"),
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
        ("Al0,3CoCrFe", "'Al0,3CoCrFe' has a decimal comma; write 'Al0.3CoCrFe'"),
        ("Ti-6,5Al-4V wt%", "has a decimal comma; write 'Ti-6.5Al-4V wt%'"),
        ("Aluminium", "unknown element 'Al|cannot be read"),
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
    for text in ("Fe60Ni60", "Fe30Ni30", "Ti6Al4V", "CuZn37", "YB66"):
        amounts = formula_amounts(text)
        share = {element: x / sum(amounts.values()) for element, x in amounts.items()}
        assert parse_composition(text, normalise=True) == pytest.approx(share, abs=1e-15)
    # Rounded figures are no other sum.
    thirds = parse_composition("Fe0.333333Ni0.333333Co0.333333")
    assert thirds == pytest.approx(dict.fromkeys(("Fe", "Ni", "Co"), 1 / 3), abs=1e-15)


def test_the_measured_alloys_of_the_example_are_ratios() -> None:
    """No formula of 265 papers looks like percent that does not sum to 100."""
    table = Path(__file__).parents[2] / "examples" / "hea" / "mpea.csv"
    with table.open(newline="", encoding="utf-8") as stream:
        texts = {row["formula"] for row in csv.DictReader(stream)}
    assert len(texts) > 500
    for text in texts:
        amounts = formula_amounts(text)
        share = {element: x / sum(amounts.values()) for element, x in amounts.items() if x}
        assert parse_composition(text) == pytest.approx(share, abs=1e-12), text


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
