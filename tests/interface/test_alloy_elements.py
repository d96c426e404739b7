"""Headers of element columns: understood, or refused by name; never an element left out."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from interface.alloy_compositions import Compositions, read_table_compositions
from interface.alloy_elements import Share, percent_of, read_element, unread_share
from interface.alloy_table import read_alloys
from loop.element_names import NAMES
from loop.errors import InvalidInputError
from loop.formula import SYMBOLS
from simulators.measured_files import parse_rows

AT, WT = ("atomic", 100.0), ("weight", 100.0)


def compositions(text: str, **options: bool) -> Compositions:
    table = parse_rows(text.encode(), "table.csv", "table")
    return read_table_compositions(table, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("header", "element", "kind", "whole"),
    [
        ("Al", "Al", None, None),
        ("x_Al", "Al", None, None),
        ("alloy:Al", "Al", None, None),
        ("alloy:aluminium", "Al", None, None),
        ("Aluminium", "Al", None, None),
        ("Al fraction", "Al", None, 1.0),
        ("Al (%)", "Al", None, 100.0),
        ("W%", "W", None, 100.0),
        ("Ta%", "Ta", None, 100.0),
        ("C content", "C", None, None),
        ("Al_wt", "Al", "weight", None),
        ("xAl", "Al", None, None),
        ("x(Al)", "Al", None, None),
        ("w(Al)", "Al", "weight", None),
        ("wtAl", "Al", "weight", None),
        ("at_Al", "Al", "atomic", None),
        ("AlPct", "Al", None, 100.0),
        ("Al-at%", "Al", *AT),
        ("AlAt%", "Al", *AT),
        ("Al (mol)", "Al", "atomic", None),
        *((text, "Al", *AT) for text in (
            "Al (at.%)", "Al at%", "Alat%", "Al_at%", "at% Al", "at.-% Al", "Al [at %]",
            "Al, at.%", "AL (at%)", "al at.%", "Aluminium (at%)", "ALUMINUM at%", "Al mol%",
            "Al (mole %)", "Al atomic percent", "Al (atomic %)", "Al at pct", "Al % by atoms",
            "Al (%at)", "nominal Al (at%)", "Al_at_pct", "Al a/o", "alloy:Al at%", "Al (at%) EDS",
        )),
        *((text, "W", *WT) for text in (
            "W (wt%)", "Wwt%", "wt% W", "W weight percent", "Tungsten (mass%)", "W w%",
            "W (wt.-%)", "W [Massen-%]", "W Gew.-%", "W w/o", "W % by weight", "wolfram wt%",
        )),
        ("Al mass fraction", "Al", "weight", 1.0),
        ("mole fraction of Al", "Al", "atomic", 1.0),
    ],
)  # fmt: skip
def test_shares(header: str, element: str, kind: str | None, whole: float | None) -> None:
    assert read_element(header) == Share(element, kind, whole)
    assert unread_share(header) is None


@pytest.mark.parametrize("header", [
    "Hardness", "No", "No.", "route", "elongation (%)", "Heat treatment", "T (K)", "V (V)",
    "Re (MPa)", "Tm (K)", "density (g/cm3)", "mass (g)", "porosity (vol%)", "at%", "wt%",
    "Al uncertainty (at%)", "± Al (at%)", "Total (wt%)", "sum at%", "in", "molar mass",
    "atomic size mismatch (%)", "Refraction", "cP", "cV (J/K)", "As cast", "radius (nm)",
    "reduction of area (%)", "RA (%)",
])  # fmt: skip
def test_other_columns_are_left_alone(header: str) -> None:
    assert read_element(header) is None
    assert unread_share(header) is None


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("Alumium (at%)", "unknown element 'Alumium'; did you mean Al (Aluminum)?"),
        ("Aluminiun (at%)", "did you mean Al (aluminium)?"),
        ("Xx (at.%)", "unknown element 'Xx'; did you mean Xe?"),
        ("Eisen wt%", "unknown element 'Eisen'"),
        ("Others (wt%)", "unknown element 'Others'"),
        ("impurities, at.%", "unknown element 'impurities'"),
        ("Al2O3 (wt%)", "unknown element 'Al2O3'"),
        ("NO (mol%)", "unknown element 'NO'"),
        ("alloy:Foo", "unknown element 'Foo'"),
        ("Al (vol%)", "percent by volume of Al is not understood"),
        ("C (ppm)", "parts per million of C is not understood"),
        ("Carbon (wt ppm)", "parts per million of C is not understood"),
        ("Co (g)", "a mass of Co is not understood"),
        ("Al (m%)", "percent of what is not said"),
        ("C [m-%]", "percent of what is not said"),
        ("Al/at%", "unknown element 'Al/'"),
    ],
)
def test_what_claims_to_be_a_share_is_named(header: str, words: str) -> None:
    assert read_element(header) is None
    assert words in (unread_share(header) or "")


def test_every_symbol_and_name_in_every_form_is_that_element() -> None:
    """No header of an element reads as another one: 118 elements, each in all forms."""
    forms = ("{} (at%)", "{} at.%", "at% {}", "{}_at%", "{} (atomic percent)", "{} mole fraction")
    for (symbol, name), form in itertools.product(zip(SYMBOLS, NAMES, strict=True), forms):
        for word in (symbol, name, name.upper(), name.lower()):
            found = read_element(form.format(word))
            assert found is not None, form.format(word)
            assert (found.element, found.kind) == (symbol, "atomic"), form.format(word)
    for symbol in SYMBOLS[:83]:
        if symbol not in ("Tc", "Pm"):
            found = read_element(f"{symbol.upper()} (wt%)")
            assert found == Share(symbol, "weight", 100.0)


def test_names_and_capitals_are_understood_and_told() -> None:
    plain = compositions("Al (at%),Co (at%),Ni (at%)\n10,40,bal\n")
    for header in ("Aluminium (at%),Co (at%),Ni (at%)", "AL (at%),CO (at%),NI (at%)"):
        assert compositions(f"{header}\n10,40,bal\n").rows == plain.rows
    named = compositions("Aluminium (at%),Co (at%),Ni (at%)\n10,40,bal\n")
    assert named.rows[0] == pytest.approx({"Al": 0.1, "Co": 0.4, "Ni": 0.5})
    assert named.words == "the columns Aluminium (at%) = Al, Co (at%), Ni (at%) by atoms"
    with pytest.raises(InvalidInputError, match="mixes weight and atomic percent"):
        compositions("Al_at%,Cobalt wt%,Ni at%\n10,40,bal\n")


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Alumium (at%),Co (at%),Ni (at%)\n10,40,bal\n", "column 'Alumium (at%)': unknown"),
        ("Co (at%),Ni (at%),Others (at%)\n40,50,10\n", "column 'Others (at%)': unknown"),
        ("Co (wt%),Ni (wt%),C (ppm)\n40,bal,500\n", "column 'C (ppm)': parts per million"),
        ("AL,Co,Ni\n0.1,0.4,bal\n", "column 'AL': is it the element Al? Head it 'Al', or rename"),
        ("Aluminim,Co,Ni\n0.1,0.4,bal\n", "column 'Aluminim': is it the element Al? Head it"),
        ("AL,CO,NI\n10,40,50\n", "column 'AL': is it the element Al?"),
        ("AL (%),Co (at%),Ni (at%)\n10,40,bal\n", "column 'AL (%)': is it the element Al?"),
        ("Al (at%),Ni (atomic fraction)\n10,0.9\n", "mixes percent and fractions"),
        ("Co (mass fraction),Eisen (mass fraction)\n0.1,0.9\n", "unknown element 'Eisen'"),
    ],
)
def test_no_share_is_left_out_in_silence(text: str, words: str, normalise: bool) -> None:
    with pytest.raises(InvalidInputError) as refused:
        compositions(text, normalise=normalise)
    assert words in str(refused.value)
    assert "table table.csv" in str(refused.value)


def test_other_numbers_beside_elements_are_no_shares() -> None:
    beside = compositions("No,Al (at%),Ni (at%),RE,Total (at%)\n1,10,90,5,100\n")
    assert beside.rows[0] == pytest.approx({"Al": 0.1, "Ni": 0.9})
    radius = compositions("Al,Ni,radius\n0.1,0.9,7\n")
    assert radius.rows[0] == pytest.approx({"Al": 0.1, "Ni": 0.9})
    text = compositions("Al,Ni,AS\n0.1,0.9,cast\n0.2,0.8,rolled\n")
    assert text.rows[1] == pytest.approx({"Al": 0.2, "Ni": 0.8})


def test_the_balance_of_fractions_is_what_is_left_of_one() -> None:
    found = compositions("Al (mass fraction),Ni (mass fraction)\n0.1,bal\n").rows[0]
    moles = {"Al": 0.1 / 26.9815384, "Ni": 0.9 / 58.6934}  # IUPAC 2021
    assert found["Al"] == pytest.approx(moles["Al"] / sum(moles.values()), rel=1e-5)


@pytest.mark.parametrize(
    ("header", "unit"),
    [
        ("composition (wt%)", "wt%"),
        ("alloy (atomic percent)", "at%"),
        ("composition, mass fraction", "mass fraction"),
        ("alloy", ""),
        ("formula (%)", ""),
    ],
)
def test_formula_columns_say_percent_of_what(header: str, unit: str) -> None:
    assert percent_of(header) == unit


def test_a_property_in_percent_of_weight_is_no_share(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    rows = "".join(f"{10 + i},{90 - i},{0.1 * i:.1f}\n" for i in range(8))
    path.write_text("Al (at%),Ni (at%),loss (wt%)\n" + rows)
    found = read_alloys(path, ["loss (wt%)"])
    np.testing.assert_allclose(found.values[:, 0], 0.1 * np.arange(8))
    assert "compositions by the columns Al (at%), Ni (at%) by atoms" in found.notes
