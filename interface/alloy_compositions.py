"""Compositions in a scientist's table: a column of formulas, or one column per element.

Figures that were rounded when they were printed need not sum to the whole exactly: what half a
unit of each last digit explains is closed without a word, anything else is refused unless it is to
be normalised.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from interface.alloy_elements import (
    Share,
    doubtful_element,
    percent_of,
    read_element,
    unread_share,
)
from loop.composition_table import ROUNDING_TOLERANCE
from loop.errors import InvalidInputError, unknown_name
from loop.formula import atomic_fractions, parse_composition
from loop.formula_rules import OtherSumError
from simulators.measured_files import Rows, read_number

FORMULA_COLUMNS = ("formula", "composition", "alloy", "material", "alloy composition")
BALANCE = ("bal", "bal.", "balance", "rest", "base", "rem", "rem.")
ABSENT = ("", "-", "–")
MOST_ROUNDING = 0.02  # of the whole: 33, 33, 33; what is further off is a mistake
_NUMBER = re.compile(r"(?<![A-Za-z])\d+\.?\d*|\.\d+|(?<=[A-Za-z])\d+\.?\d*")


@dataclass(frozen=True, slots=True)
class Compositions:
    """How a table gives compositions. ``columns``: those that were used, and as what in ``words``.

    ``rows``: per line of the table its atomic fractions by element, sum 1.
    """

    rows: tuple[Mapping[str, float], ...]
    texts: tuple[str, ...]  # as given; "" where the table has no formulas
    columns: tuple[str, ...]
    words: str


def read_table_compositions(
    table: Rows,
    *,
    formula: str | None = None,
    normalise: bool = False,
    aside: Collection[str] = (),
) -> Compositions:
    """The compositions of every row.

    ``formula``: the column of formulas; otherwise the one that is called formula, composition,
    alloy or material, or else the columns of elements. ``normalise``: scale what sums to anything.
    ``aside``: columns that are known to hold something else.
    Raises InvalidInputError, naming line and column, for what cannot be read, a table with both
    or neither, two columns of one element, percent by weight beside percent by atoms, and, beside
    columns of elements, one that says percent of something else.
    """
    shares = {c: found for c in table.header if (found := read_element(c)) is not None}
    column = _formula_column(table, formula, shares, aside)
    if column is not None:
        texts = [cells[column] for _, cells in table.rows]
        rows = [
            _of_formula(text, column, table.where(line, column), normalise)
            for text, (line, _) in zip(texts, table.rows, strict=True)
        ]
        return Compositions(tuple(rows), tuple(texts), (column,), f"the column {column}")
    _check_elements(table, shares, aside)
    kinds = {share.kind for share in shares.values() if share.kind}
    wholes = {share.whole for share in shares.values() if share.whole}
    said = _Said(bool(kinds), kinds == {"weight"}, wholes.pop() if wholes else None)
    names = {c: share.element for c, share in shares.items()}
    rows = [
        _of_elements(table, line, cells, names, said, normalise=normalise)
        for line, cells in table.rows
    ]
    return Compositions(tuple(rows), ("",) * len(rows), tuple(shares), _in_words(names, said))


@dataclass(frozen=True, slots=True)
class _Said:
    """What headers of elements say: percent of what, and the whole (1, 100, None: not said)."""

    of_what: bool
    by_weight: bool
    whole: float | None


def _in_words(names: Mapping[str, str], said: _Said) -> str:
    """``the columns Al (at.%), Cobalt (at%) = Co``."""
    columns = [
        c if re.search(rf"(?<![A-Za-z]){e}(?![a-z])", c) else f"{c} = {e}" for c, e in names.items()
    ]
    by = " by weight" if said.by_weight else " by atoms" if said.of_what else ""
    return f"the columns {', '.join(columns)}{by}"


def _formula_column(
    table: Rows, given: str | None, elements: Mapping[str, Share], aside: Collection[str]
) -> str | None:
    if given is not None:
        if given not in table.header:
            raise InvalidInputError(
                f"table {table.path}: " + unknown_name("column", given, table.header)
            )
        return given
    named = [c for c in table.header if _plain(c) in FORMULA_COLUMNS]
    if len(named) > 1:
        raise InvalidInputError(
            f"table {table.path} has the columns {' and '.join(map(repr, named))}; say which one "
            "holds the formulas (--formula COLUMN)"
        )
    if named and (len(elements) > 1 or any(share.kind for share in elements.values())):
        raise InvalidInputError(
            f"table {table.path} has a column {named[0]!r} and columns of elements "
            f"({', '.join(list(elements)[:3])}); keep one of the two, or say that the formulas "
            f"count (--formula {named[0]!r})"
        )
    if named:
        return named[0]
    if not elements:
        _check_others(table, elements, aside)
        raise InvalidInputError(
            f"table {table.path} has no compositions; expected a column 'formula' (such as "
            "Al0.3CoCrFeNi, or Ti-6Al-4V wt%) or one column per element (such as 'Al (at.%)'); "
            f"it has {', '.join(table.header)}. Name a column of formulas with --formula"
        )
    return None


def _plain(column: str) -> str:
    text = re.sub(r"[(\[].*?[)\]]", " ", column).replace("_", " ").lower()
    return re.sub(r"\b(nominal|chemical|at|wt|mass)\b|[%.,]", " ", text).strip()


def _of_formula(text: str, column: str, where: str, normalise: bool) -> dict[str, float]:
    if not text:
        raise InvalidInputError(f"{where}: got nothing; expected a formula such as Al0.3CoCrFeNi")
    unit = percent_of(column)
    full = text if not unit or "%" in text else f"{text} {unit}"
    try:
        return parse_composition(full, normalise=normalise)
    except OtherSumError as error:
        figures = _NUMBER.findall(re.sub(r"%", " ", full))
        if _explained(figures, sum(map(float, figures))):
            return parse_composition(full, normalise=True)
        raise InvalidInputError(f"{where}: {error}") from None
    except InvalidInputError as error:
        raise InvalidInputError(f"{where}: {error}") from None


def _explained(figures: list[str], total: float) -> bool:
    """Whether rounding of the printed figures explains that they do not sum to 1 or to 100."""
    whole = 1.0 if total < 10 else 100.0
    rounding = sum(map(_half_unit, figures)) + ROUNDING_TOLERANCE * whole
    return abs(total - whole) <= min(rounding, MOST_ROUNDING * whole)


def _half_unit(figure: str) -> float:
    """Half a unit of the last digit of a printed number, 0 for 0; ``12.5`` -> 0.05."""
    mantissa, _, exponent = figure.lower().partition("e")
    if not float(figure):
        return 0.0
    decimals = len(mantissa.partition(".")[2])
    return 0.5 * 10.0 ** (int(exponent or 0) - decimals)


def _check_elements(table: Rows, shares: Mapping[str, Share], aside: Collection[str]) -> None:
    first: dict[str, str] = {}
    for column, share in shares.items():
        if share.element in first:
            raise InvalidInputError(
                f"table {table.path}: columns {first[share.element]!r} and {column!r} are both of "
                f"{share.element}; keep one"
            )
        first[share.element] = column
    kinds = {share.kind: column for column, share in shares.items() if share.kind}
    if len(kinds) > 1:
        raise InvalidInputError(
            f"table {table.path} mixes weight and atomic percent ({kinds['weight']!r}, "
            f"{kinds['atomic']!r}); give all elements in one of them"
        )
    wholes = {share.whole: column for column, share in shares.items() if share.whole}
    if len(wholes) > 1:
        raise InvalidInputError(
            f"table {table.path} mixes percent and fractions ({wholes[100.0]!r}, {wholes[1.0]!r}); "
            "give all elements in one of them"
        )
    phases = {c.rpartition(":")[0] for c in shares if ":" in c}
    if len(phases) > 1:
        raise InvalidInputError(
            f"table {table.path} has compositions of {len(phases)} phases ({', '.join(phases)}); "
            "expected alloys as a whole. For phase compositions see `spinodal new --compositions`"
        )
    _check_others(table, shares, aside)


def _check_others(table: Rows, shares: Mapping[str, Share], aside: Collection[str]) -> None:
    """Refuse columns that may be of the composition and are not understood as such."""
    plain = not any(share.kind for share in shares.values())
    for column in table.header:
        if column in shares or column in aside:
            continue
        if problem := unread_share(column):
            raise InvalidInputError(f"table {table.path}, column {column!r}: {problem}")
        element = doubtful_element(column)
        # Where all others say percent of what, one that does not is none of them.
        if element and (plain or "%" in column) and _amounts(table, column):
            raise InvalidInputError(
                f"table {table.path}, column {column!r}: is it the element {element}? Head it "
                f"{element!r}, or rename the column where it is none of the composition"
            )


def _amounts(table: Rows, column: str) -> bool:
    """Whether all cells could be shares of an element."""
    cells = [row[column].lower() for _, row in table.rows]
    given = [text for text in cells if text not in ABSENT and text not in BALANCE]
    return all(re.fullmatch(r"\d*[.,]?\d+", text) for text in given)


def _of_elements(
    table: Rows,
    line: int,
    cells: Mapping[str, str],
    names: Mapping[str, str],
    said: _Said,
    *,
    normalise: bool,
) -> dict[str, float]:
    amounts: dict[str, float] = {}
    rest = None
    figures = []
    for column, element in names.items():
        text, where = cells[column], table.where(line, column)
        if text.lower() in BALANCE:
            if rest is not None:
                raise InvalidInputError(f"{where}: a second element is the balance; give one")
            rest = element
            continue
        value = read_number(text, where) if text not in ABSENT else 0.0
        if value < 0:
            raise InvalidInputError(f"{where}: got {text}; expected a share >= 0")
        if value:
            amounts[element] = value
            figures.append(text)
    total = sum(amounts.values())
    where = f"{table.path}, line {line}"
    if rest is not None:
        whole = said.whole or (100.0 if said.of_what or total > 1 else 1.0)
        if total >= whole:
            raise InvalidInputError(
                f"{where}: the elements sum to {total:.6g}, which leaves nothing to {rest}, the "
                f"balance; expected less than {whole:g}"
            )
        amounts[rest] = whole - total
        total = whole
    if total <= 0:
        raise InvalidInputError(f"{where}: no element has a share; fill the row in, or remove it")
    if not normalise:
        if not (rest or _explained(figures, total)):
            whole = 1 if total < 10 else 100
            raise InvalidInputError(
                f"{where}: the elements sum to {total:.6g}; expected {whole}: mend it, or have "
                "every row scaled to its sum (--normalise)"
            )
        if total > 10 and not said.of_what:
            raise InvalidInputError(
                f"{where}: the elements sum to {total:.6g}: percent of what? Write it into the "
                "headers, such as 'Al (at.%)' or 'Al (wt%)'"
            )
    order = tuple(amounts)
    if not said.by_weight:
        return {e: amounts[e] / total for e in order}
    found = atomic_fractions([amounts[e] for e in order], order)
    return dict(zip(order, found.tolist(), strict=True))
