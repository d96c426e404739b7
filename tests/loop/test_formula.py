"""Formulas and mass fractions, also against pymatgen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pymatgen.core import Composition, Element

from loop.element_names import NAMES, OTHER_NAMES
from loop.errors import InvalidInputError
from loop.formula import (
    SYMBOLS,
    atomic_fractions,
    check_symbol,
    element_named,
    formula_amounts,
    from_formula,
    from_pymatgen,
    mass_fractions,
    to_formula,
    to_pymatgen,
    to_vector,
)

ELEMENTS = ("Ni", "Al", "Cr", "Co", "Re")
FORMULAS = ["Al0.3CoCrFeNi", "Ni3Al", "(Ni0.9Co0.1)3(Al0.8Ti0.2)", "Fe2O3", "CO", "Co", "NiNi2Al"]

rows = hnp.arrays(np.float64, 5, elements=st.one_of(st.just(0.0), st.floats(1e-6, 1.0))).filter(
    lambda x: float(x.sum()) > 0
)


def test_symbols_are_the_periodic_table() -> None:
    assert len(SYMBOLS) == 118
    assert [Element.from_Z(z + 1).symbol for z in range(118)] == list(SYMBOLS)


def test_names_are_those_of_pymatgen() -> None:
    assert [Element.from_Z(z + 1).long_name for z in range(118)] == list(NAMES)
    for symbol, name in zip(SYMBOLS, NAMES, strict=True):
        assert element_named(name.lower()) == symbol
    assert set(OTHER_NAMES.values()) <= set(SYMBOLS)
    assert element_named("Aluminium") == "Al"
    assert element_named("Al") is None


def test_unknown_symbol_names_the_nearest() -> None:
    with pytest.raises(InvalidInputError, match="unknown element 'Nickel'; did you mean 'Ni'"):
        check_symbol("Nickel", "x")
    check_symbol("Ni", "x")
    with pytest.raises(InvalidInputError, match="x: unknown element 'ni'; did you mean"):
        check_symbol("ni", "x")


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_are_read_as_pymatgen_reads_them(text: str) -> None:
    theirs = Composition(text).fractional_composition.as_dict()
    names = tuple(formula_amounts(text))
    assert dict(zip(names, from_formula(text), strict=True)) == pytest.approx(theirs, abs=1e-15)


def test_formulas_with_spaces_and_exponents() -> None:
    assert formula_amounts(" Ni 75 Al25 ") == {"Ni": 75.0, "Al": 25.0}
    assert formula_amounts("Ni1Re1e-3Al.5") == {"Ni": 1.0, "Re": 1e-3, "Al": 0.5}
    assert formula_amounts("[Ni(Al)2]2") == {"Ni": 2.0, "Al": 4.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no element"),
        ("Ni0", "holds no element"),
        ("ni3al", "cannot be read at 'ni3al'"),
        ("Ni3Xx", "unknown element 'Xx'"),
        ("Ni-20Cr", "cannot be read at '-20Cr'"),
        ("Ni0,5Al", "'Ni0,5Al' has a decimal comma; write 'Ni0.5Al'"),
        ("Nickel3Al", "cannot be read"),
        ("(Ni3Al", "leaves a group open"),
        ("Ni3)Al", "closes a group"),
        ("(2Ni)Al", "number after '\\('"),
    ],
)
def test_unreadable_formulas(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        formula_amounts(text)


@given(rows)
@settings(deadline=None)
def test_text_round_trip_is_exact(x: NDArray[np.float64]) -> None:
    x = x / x.sum()
    back = from_formula(to_formula(x, ELEMENTS), ELEMENTS)
    assert np.array_equal(back == 0, x == 0)
    # the digits come back exactly; closing them once more may move the last place
    assert back == pytest.approx(x, rel=1e-15, abs=0)
    assert formula_amounts(to_formula(x, ELEMENTS)) == {
        e: float(v) for e, v in zip(ELEMENTS, x, strict=True) if v
    }


def test_rounded_text() -> None:
    assert to_formula([0.751, 0.249, 0, 0, 0], ELEMENTS, digits=2) == "Ni0.75Al0.25"


def test_order_and_unknown_elements() -> None:
    assert np.array_equal(from_formula("AlNi3", ("Ni", "Al")), [0.75, 0.25])
    assert np.array_equal(to_vector({"Ni": 1.0, "Fe": 0.0}, ("Ni", "Al")), [1.0, 0.0])
    with pytest.raises(InvalidInputError, match="unknown element 'Fe' here; expected of Ni, Al"):
        from_formula("FeNi", ("Ni", "Al"))
    with pytest.raises(InvalidInputError, match=r"shape \(2,\); expected \(5,\)"):
        to_formula([0.5, 0.5], ELEMENTS)


@given(rows)
@settings(deadline=None)
def test_pymatgen_round_trip(x: NDArray[np.float64]) -> None:
    x = x / x.sum()
    assert from_pymatgen(to_pymatgen(x, ELEMENTS), ELEMENTS) == pytest.approx(x, abs=1e-7)


def test_oxidation_states_are_dropped() -> None:
    assert np.array_equal(
        from_pymatgen(Composition({"Ni2+": 1, "Al3+": 1}), ("Ni", "Al")), [0.5, 0.5]
    )


@given(rows)
@settings(deadline=None)
def test_mass_and_atomic_fractions(x: NDArray[np.float64]) -> None:
    x = x / x.sum()
    mass = mass_fractions(x, ELEMENTS)
    assert mass.sum() == pytest.approx(1.0, abs=1e-14)
    assert atomic_fractions(mass, ELEMENTS) == pytest.approx(x, rel=1e-13)
    assert np.array_equal(mass == 0, x == 0)
    theirs = to_pymatgen(x, ELEMENTS)
    for element, value in zip(ELEMENTS, mass, strict=True):
        assert value == pytest.approx(theirs.get_wt_fraction(element), abs=1e-7)
