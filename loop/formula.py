"""Chemistry in words: element symbols, formulas, mass fractions, pymatgen in and out.

pymatgen (2 s to import) is imported only where its data or its objects are used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from loop.composition import FloatArray, closure
from loop.element_names import NAMES, OTHER_NAMES
from loop.errors import InvalidInputError, unknown_name
from loop.formula_rules import (
    UNIT,
    OtherSumError,
    check_decimal_points,
    check_no_trade_name,
    whole_of,
    without_brackets,
)

if TYPE_CHECKING:
    from pymatgen.core import Composition

_SYMBOLS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se "
    "Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb "
    "Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm "
    "Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og"
)
SYMBOLS: tuple[str, ...] = tuple(_SYMBOLS.split())

_BY_NAME = {name.lower(): symbol for symbol, name in zip(SYMBOLS, NAMES, strict=True)} | OTHER_NAMES

FRACTION_TOLERANCE = 1e-5  # of a sum of fractions: what rounding of their figures may leave

_DESIGNATION = re.compile(r"(?:\d+\.?\d*)?[A-Z][a-z]?(?:-\d+\.?\d*[A-Z][a-z]?)+")
_PART = re.compile(r"(\d+\.?\d*)?([A-Z][a-z]?)")
_TOKEN = re.compile(r"\s*([A-Z][a-z]?|[()\[\]])\s*(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)?")


def element_named(name: str) -> str | None:
    """The symbol of an element by its English name, in any capitals; None for any other word."""
    return _BY_NAME.get(name.strip().lower())


def check_symbol(symbol: str, where: str) -> None:
    """Raise InvalidInputError, its text starting with ``where``, unless the element exists."""
    if symbol not in SYMBOLS:
        if (named := element_named(symbol)) is not None:
            raise InvalidInputError(
                f"{where}: unknown element {symbol!r}; did you mean {named!r}? Elements go by "
                "their symbols"
            )
        raise InvalidInputError(f"{where}: " + unknown_name("element", symbol, SYMBOLS))


def formula_amounts(text: str) -> dict[str, float]:
    """Amounts in a formula, in order of first mention: ``Al0.3CoCrFeNi``, ``(Ni0.9Co0.1)3Al``.

    A missing number is 1; spaces between symbol and number are allowed; an element named twice
    is added up. Raises InvalidInputError for anything else.
    """
    check_decimal_points("formula", text)
    groups: list[dict[str, float]] = [{}]
    position = 0
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        if match is None:
            raise InvalidInputError(
                f"formula {text!r} cannot be read at {text[position:].strip()[:8]!r}; expected "
                "element symbols and amounts, such as Al0.3CoCrFeNi"
            )
        position = match.end()
        token, number = match[1], match[2]
        amount = 1.0 if number is None else float(number)
        if token in "([":
            if number is not None:
                raise InvalidInputError(
                    f"formula {text!r} has a number after {token!r}; put it behind the group"
                )
            groups.append({})
        elif token in ")]":
            if len(groups) == 1:
                raise InvalidInputError(f"formula {text!r} closes a group that was not opened")
            for element, value in groups.pop().items():
                groups[-1][element] = groups[-1].get(element, 0.0) + amount * value
        else:
            check_symbol(token, f"formula {text!r}")
            groups[-1][token] = groups[-1].get(token, 0.0) + amount
    if len(groups) > 1:
        raise InvalidInputError(f"formula {text!r} leaves a group open; close it")
    if not any(groups[0].values()):
        raise InvalidInputError(f"formula {text!r} holds no element; give one such as Ni3Al")
    return groups[0]


def parse_composition(text: str, *, normalise: bool = False) -> dict[str, float]:
    """Atomic fractions, sum 1, of a composition in words, in order of first mention.

    Amounts: ``Al0.3CoCrFeNi``. Fractions (every number given and below 1): ``Fe0.4Ni0.6``.
    Percent: ``Ni80Cr20``, ``Ni80Cr20 at%``, ``Ti 90 Al 6 V 4 wt%``; fractions of either,
    ``Ti0.9Al0.06V0.04 wt%``. Alloy designations, whose first element makes up the rest:
    ``Ti-6Al-4V wt%``. When numbers are percent, and when not: ``loop.formula_rules``. Masses become
    fractions with pymatgen's atomic masses. ``normalise``: numbers are taken as a ratio, whatever
    they sum to.

    Raises InvalidInputError for an unknown element (with the nearest), percent by weight and by
    atoms in one text, percent without either, a decimal comma, the name of an alloy that is another
    one's formula, and an element named twice in fractions or percent; OtherSumError, which is one,
    for fractions or percent with another sum.
    """
    check_decimal_points("composition", text)
    bare = without_brackets(text)
    units = list(UNIT.finditer(bare))
    kinds = {_kind_of(unit[1], text) for unit in units}
    if len(kinds) > 1:
        raise InvalidInputError(
            f"composition {text!r} mixes weight and atomic percent; give all of it in one of them"
        )
    plain = re.sub(r"\s*,(?:\s+|(?=[A-Za-z(\[]))", " ", UNIT.sub(" ", bare)).strip().rstrip(",")
    designation = _DESIGNATION.fullmatch(plain) is not None
    if designation:
        if not kinds:
            raise InvalidInputError(
                f"composition {text!r} does not say percent of what; write {plain!r} with wt% "
                "or at%"
            )
        amounts = _designation_amounts(text, plain)
    else:
        amounts = formula_amounts(plain)
    numbers = [number for _, number in _TOKEN.findall(plain)]
    total = sum(amounts.values())
    said = None
    if kinds:
        said = 1.0 if any(unit[2].lower().startswith("fraction") for unit in units) else 100.0
    grouped = re.search(r"[()\[\]]", plain) is not None
    whole = said if designation or grouped else whole_of(numbers, total, said)
    if whole is not None and not designation:
        _check_once(text, plain)
    if not normalise:
        if not (kinds or grouped):
            check_no_trade_name(text, plain)
        if whole is not None and abs(total / whole - 1.0) > FRACTION_TOLERANCE:
            read = "" if kinds or whole == 1 else " (numbers this large are read as percent)"
            raise OtherSumError(
                f"composition {text!r} sums to {total:.6g}; expected {whole:g}{read}: mend it, or "
                "have it scaled to its sum with --normalise"
            )
    names = tuple(name for name, amount in amounts.items() if amount)
    vector = np.array([amounts[name] for name in names])
    x = atomic_fractions(vector, names) if kinds == {"weight"} else closure(vector)
    return dict(zip(names, x.tolist(), strict=True))


def _kind_of(word: str | None, text: str) -> str:
    if not word:
        raise InvalidInputError(
            f"composition {text!r} does not say percent of what; write wt% or at%"
        )
    return "weight" if word.lower() in ("wt", "w", "mass", "weight") else "atomic"


def _check_once(text: str, plain: str) -> None:
    found = [symbol for symbol, _ in _TOKEN.findall(plain)]
    for symbol in found:
        if found.count(symbol) > 1:
            raise InvalidInputError(
                f"composition {text!r} names {symbol} twice; give its share once"
            )


def _designation_amounts(text: str, plain: str) -> dict[str, float]:
    """Percent by element of ``Ti-6Al-4V``; the first makes up the rest where it has no number."""
    amounts: dict[str, float] = {}
    (first_number, first), *others = _PART.findall(plain)
    check_symbol(first, f"composition {text!r}")
    amounts[first] = float(first_number) if first_number else 0.0
    for number, symbol in others:
        check_symbol(symbol, f"composition {text!r}")
        if symbol in amounts:
            raise InvalidInputError(
                f"composition {text!r} names {symbol} twice; give its share once"
            )
        amounts[symbol] = float(number)
    if not first_number:
        amounts[first] = 100.0 - sum(amounts.values())
        if amounts[first] <= 0:
            raise InvalidInputError(
                f"composition {text!r} leaves {amounts[first]:g} % to {first}; expected the others "
                "to sum to less than 100"
            )
    return amounts


def read_composition(
    text: str, elements: Sequence[str] | None = None, *, normalise: bool = False
) -> FloatArray:
    """Atomic fractions (e,) of a composition in words, see ``parse_composition``.

    In the order of ``elements``, or of first mention. Raises InvalidInputError besides for an
    element that is not among them.
    """
    amounts = parse_composition(text, normalise=normalise)
    return to_vector(amounts, tuple(amounts) if elements is None else elements)


def canonical_text(x: ArrayLike, elements: Sequence[str], *, by_weight: bool = False) -> str:
    """The one text of a composition (e,): elements by alphabet, absent ones left out.

    Fractions with as many digits as give the same numbers back (``Al0.25Ni0.75``), or percent by
    weight (``Al13.2…Ni86.7… wt%``). ``read_composition`` reads it back within 1e-12.
    """
    order = sorted(range(len(elements)), key=lambda i: elements[i])
    names = [elements[i] for i in order]
    x = closure(_row(x, elements)[order])  # ordered first: a sum depends on it in its last digit
    if not by_weight:
        return to_formula(x, names)
    return f"{to_formula(100.0 * mass_fractions(x, names), names)} wt%"


def to_vector(amounts: Mapping[str, float], elements: Sequence[str]) -> FloatArray:
    """Amounts by element -> atomic fractions (e,) in the order of ``elements``, sum 1.

    Raises InvalidInputError for an element with an amount that is not among ``elements``.
    """
    for element, amount in amounts.items():
        if amount != 0 and element not in elements:
            if element in SYMBOLS:  # known, so that no other one is offered in its place
                raise InvalidInputError(
                    f"unknown element {element!r} here; expected of {', '.join(elements)}"
                )
            raise InvalidInputError(unknown_name("element", element, elements))
    return closure(np.array([amounts.get(element, 0.0) for element in elements]))


def from_formula(text: str, elements: Sequence[str] | None = None) -> FloatArray:
    """Atomic fractions (e,) of a formula, in the order of ``elements`` or of first mention."""
    amounts = formula_amounts(text)
    return to_vector(amounts, tuple(amounts) if elements is None else elements)


def to_formula(x: ArrayLike, elements: Sequence[str], digits: int | None = None) -> str:
    """Formula of one composition (e,), absent elements left out: ``Ni0.75Al0.25``.

    ``digits``: decimals; None writes as many as give the same numbers back.
    """
    x = _row(x, elements)
    parts = []
    for element, value in zip(elements, x, strict=True):
        if value != 0:
            number = np.format_float_positional(value, precision=digits, unique=True, trim="-")
            parts.append(f"{element}{number}")
    return "".join(parts)


def _row(x: ArrayLike, elements: Sequence[str]) -> FloatArray:
    x = np.asarray(x, dtype=np.float64)
    if x.shape != (len(elements),):
        raise InvalidInputError(
            f"composition has shape {x.shape}; expected ({len(elements)},), one per element"
        )
    return x


def to_pymatgen(x: ArrayLike, elements: Sequence[str]) -> Composition:
    """pymatgen Composition of atomic fractions (e,); it drops amounts below 1e-8."""
    from pymatgen.core import Composition

    x = _row(x, elements)
    return Composition({e: float(v) for e, v in zip(elements, x, strict=True) if v != 0})


def from_pymatgen(composition: Composition, elements: Sequence[str]) -> FloatArray:
    """Atomic fractions (e,) of a pymatgen Composition; oxidation states are dropped."""
    amounts: dict[str, float] = composition.get_el_amt_dict()
    return to_vector(amounts, elements)


@cache
def _mass(symbol: str) -> float:
    from pymatgen.core import Element

    check_symbol(symbol, "atomic mass")
    return float(Element(symbol).atomic_mass)


def atomic_masses(elements: Sequence[str]) -> FloatArray:
    """Standard atomic masses in g/mol, (e,), from pymatgen."""
    return np.array([_mass(element) for element in elements])


def mass_fractions(x: ArrayLike, elements: Sequence[str]) -> FloatArray:
    """Atomic fractions (..., e) -> mass fractions (..., e), sum 1."""
    return closure(closure(x) * atomic_masses(elements))


def atomic_fractions(w: ArrayLike, elements: Sequence[str]) -> FloatArray:
    """Mass fractions (or masses) (..., e) -> atomic fractions (..., e), sum 1."""
    return closure(closure(w) / atomic_masses(elements))
