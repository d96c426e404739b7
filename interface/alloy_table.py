"""A scientist's CSV of alloys with measured properties, read and checked as a whole.

One row an alloy that was measured: its composition (``interface.alloy_compositions``), properties
with the unit in the header, and, if known, their uncertainties (one standard deviation), in a
column of their own (``hardness uncertainty (HV)``, ``± hardness (HV)``) or behind the value
(``512 ± 12``). ``P_spread`` with ``P_count`` are repeats: standard deviation and number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from interface.alloy_compositions import read_table_compositions
from interface.alloy_headers import Quantity, read_quantity
from loop.errors import InvalidInputError, unknown_name
from loop.formula import to_formula
from loop.laboratory import counted
from simulators.measured_files import Rows, read_rows
from simulators.measured_limits import usual_limits
from simulators.measured_work import read_value

FloatArray = NDArray[np.float64]

SAME_ALLOY = 1e-4  # atomic fraction; no laboratory weighs more exactly
LEAST = 8  # alloys, without which a surrogate cannot be fitted
BLANK = {"", "-", "–", "—", "n/a", "na", "nan", "none", "?"}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, eq=False)
class AlloyTable:
    """n different alloys, each with all k properties that were asked for.

    ``elements``: the one that most alloys have first, the others by alphabet. ``compositions``:
    (n, e) atomic fractions. ``values`` and ``uncertainty``: (n, k), NaN for one that is not known.
    ``labels``: label -> its value in every row. ``lines``: of the table, of each alloy.
    ``units``: property -> unit. ``notes``: what became of the rows, in sentences.
    """

    path: Path
    names: tuple[str, ...]
    elements: tuple[str, ...]
    compositions: FloatArray
    units: Mapping[str, str]
    values: FloatArray
    uncertainty: FloatArray
    labels: Mapping[str, tuple[str, ...]]
    lines: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Property:
    """The columns of one property."""

    quantity: Quantity
    value: str
    uncertainty: str | None
    repeats: tuple[str, str] | None  # columns of spread and count


def read_alloys(
    path: Path,
    wanted: Sequence[str],
    *,
    formula: str | None = None,
    only: Mapping[str, str] | None = None,
    labels: Sequence[str] = (),
    normalise: bool = False,
) -> AlloyTable:
    """The alloys of a CSV file that have every property of ``wanted``.

    ``wanted``: properties as their columns are headed (``hardness (HV)``) or as the program names
    them (``hardness_HV``). ``only``: column -> the text that a row must have there. ``labels``:
    columns that, with the composition, make an alloy; rows without are left aside. Rows of one
    alloy are merged: mean of the values; the uncertainty is that of the mean, from their scatter or
    from what each states, whichever is more. Raises InvalidInputError, naming line and column.
    """
    table = read_rows(path, "table")
    properties = [_find(table, name) for name in wanted]
    for column in (*(only or {}), *labels):
        if column not in table.header:
            raise InvalidInputError(
                f"table {path}: " + unknown_name("column", column, table.header)
            )
    notes = [f"{len(table.rows)} rows in {path.name}"]
    for column, text in (only or {}).items():
        table = _rows_with(table, column, text)
        notes.append(f"{len(table.rows)} with {column} = {text}")
    for column in labels:
        rows = tuple(row for row in table.rows if row[1][column])
        if len(rows) < len(table.rows):
            notes.append(f"{len(table.rows) - len(rows)} have no {column}")
            table = Rows(table.path, table.header, rows)
    measured = []
    for line, cells in table.rows:
        found = [_read(table, line, cells, p) for p in properties]
        if all(value is not None for value in found):
            measured.append(((line, cells), [pair for pair in found if pair is not None]))
    names = [p.quantity.full for p in properties]
    for name in names:
        if names.count(name) > 1:
            raise InvalidInputError(f"{name} is asked for twice; say once what it is to be")
    if len(measured) < len(table.rows):
        notes.append(f"{len(table.rows) - len(measured)} lack {' or '.join(names)}")
    table = Rows(table.path, table.header, tuple(row for row, _ in measured))
    used = {c for p in properties for c in (p.value, p.uncertainty, *(p.repeats or ())) if c}
    compositions = read_table_compositions(
        table, formula=formula, normalise=normalise, aside=used | set(only or {}) | set(labels)
    )
    notes.append(f"compositions by {compositions.words}")
    elements = _order(compositions.rows)
    x = np.array([[row.get(e, 0.0) for e in elements] for row in compositions.rows])
    x = x.reshape(len(measured), len(elements))
    given = {name: [cells[name] for _, cells in table.rows] for name in labels}
    groups = _groups(x, list(zip(*given.values(), strict=True)) if given else [()] * len(x))
    if len(groups) < LEAST:
        raise InvalidInputError(
            f"table {path}: {'; '.join(notes)}; that leaves {len(groups)} different alloys, and "
            f"proposals need at least {LEAST}: measure more, or ask for fewer properties"
        )
    pairs = np.array([found for _, found in measured])  # (rows, k, 2)
    values, uncertainty = np.array([_merged(pairs[group]) for group in groups]).transpose(1, 0, 2)
    repeated = [group for group in groups if len(group) > 1]
    if repeated:
        widest = max(repeated, key=lambda g: float(np.ptp(pairs[g, 0, 0])))
        ends = f"{pairs[widest, 0, 0].min():g} to {pairs[widest, 0, 0].max():g}"
        notes.append(
            f"{counted(len(repeated), 'alloy')} in several rows, merged into their mean with its "
            f"uncertainty; farthest apart in {names[0]}: lines "
            f"{', '.join(str(table.rows[i][0]) for i in widest)}, {ends}"
        )
    first = [group[0] for group in groups]
    return AlloyTable(
        path=path,
        names=tuple(compositions.texts[i] or to_formula(x[i], elements, 4) for i in first),
        elements=elements,
        compositions=x[first],
        units={p.quantity.full: p.quantity.unit for p in properties},
        values=values,
        uncertainty=uncertainty,
        labels={name: tuple(texts[i] for i in first) for name, texts in given.items()},
        lines=tuple(tuple(table.rows[i][0] for i in group) for group in groups),
        notes=tuple(notes),
    )


def _find(table: Rows, wanted: str) -> _Property:
    """The columns of a property. Raises InvalidInputError where it has none, or no unit."""
    columns: dict[str, Quantity] = {}
    for column in table.header:
        try:
            columns[column] = read_quantity(column)
        except InvalidInputError:  # of another column, whose unit nobody needs
            if column == wanted:
                raise
    values = {c: q for c, q in columns.items() if q.role == "value"}
    matching = [c for c in values if c == wanted]
    matching = matching or [c for c, q in values.items() if q.full.lower() == wanted.lower()]
    matching = matching or [c for c, q in values.items() if q.name == wanted.lower()]
    if not matching:  # then the unit is what is missing
        bare = [c for c, q in values.items() if q.suffix is None]
        matching = [c for c in bare if wanted.lower().startswith(f"{values[c].name}_")]
    if not matching:
        known = [*values, *(q.full for q in values.values())]
        raise InvalidInputError(f"table {table.path}: " + unknown_name("property", wanted, known))
    if len(matching) > 1:
        raise InvalidInputError(
            f"table {table.path}: {wanted} may be {' or '.join(map(repr, matching))}; give one of "
            "these as it stands"
        )
    column = matching[0]
    quantity = values[column]
    if quantity.suffix is None:
        raise InvalidInputError(
            f"table {table.path}: column {column!r} does not say its unit; head it such as "
            f"'{column} (MPa)', or '{column} (1)' where there is none"
        )
    if not _NAME.fullmatch(quantity.full):
        raise InvalidInputError(
            f"table {table.path}: {column!r} would be the property {quantity.full!r}; head it with "
            "letters and digits of the Latin alphabet"
        )

    def beside(role: str) -> str | None:
        found = [c for c, q in columns.items() if q.role == role and q.name == quantity.name]
        found = [
            c for c in found if columns[c].suffix in (None, quantity.suffix) or role == "count"
        ]
        if len(found) > 1:
            raise InvalidInputError(
                f"table {table.path}: {' and '.join(map(repr, found))} are both the {role} of "
                f"{column!r}; keep one"
            )
        return found[0] if found else None

    spread, count = beside("spread"), beside("count")
    repeats = (spread, count) if spread is not None and count is not None else None
    return _Property(quantity, column, beside("uncertainty"), repeats)


def _rows_with(table: Rows, column: str, text: str) -> Rows:
    rows = tuple(row for row in table.rows if row[1][column] == text)
    if not rows:
        there = list(dict.fromkeys(cells[column] for _, cells in table.rows))
        raise InvalidInputError(
            f"table {table.path}: " + unknown_name(f"value of {column}", text, there)
        )
    return Rows(table.path, table.header, rows)


def _read(
    table: Rows, line: int, cells: Mapping[str, str], found: _Property
) -> tuple[float, float] | None:
    """Value and standard uncertainty (NaN where none is given); None where nothing is."""
    text, where = cells[found.value], table.where(line, found.value)
    if text.lower() in BLANK:
        return None
    value, uncertainty = read_value(text, where)
    low, high = usual_limits(found.quantity.full, found.quantity.unit)
    if not low <= value <= high:
        raise InvalidInputError(
            f"{where}: {value:g} is outside the physical range [{low:g}, {high:g}]; correct it, or "
            "the unit in the header"
        )
    if found.uncertainty is not None and cells[found.uncertainty].lower() not in BLANK:
        if uncertainty is not None:
            raise InvalidInputError(
                f"{where}: {text} has an uncertainty, and another is in the column "
                f"{found.uncertainty!r}; keep one"
            )
        place = table.where(line, found.uncertainty)
        uncertainty, _ = read_value(cells[found.uncertainty], place)
        if uncertainty < 0:
            raise InvalidInputError(f"{place}: got {uncertainty:g}; expected an uncertainty >= 0")
    if uncertainty is None and found.repeats is not None:
        spread, count = (cells[c] for c in found.repeats)
        if spread.lower() not in BLANK and count.lower() not in BLANK:
            n, _ = read_value(count, table.where(line, found.repeats[1]))
            s, _ = read_value(spread, table.where(line, found.repeats[0]))
            if n < 1 or s < 0:
                raise InvalidInputError(
                    f"{table.where(line, found.repeats[1])}: {n:g} repeats with a spread of {s:g}; "
                    "expected at least 1, and a spread >= 0"
                )
            uncertainty = s / math.sqrt(n)
    return value, math.nan if uncertainty is None else uncertainty


def _order(rows: Sequence[Mapping[str, float]]) -> tuple[str, ...]:
    """Elements, the commonest first: the surrogate leaves out the first, which the rest give."""
    count: dict[str, int] = {}
    for row in rows:
        for element, x in row.items():
            count[element] = count.get(element, 0) + (x > 0)
    names = sorted(e for e, n in count.items() if n)
    base = max(names, key=lambda e: count[e], default="")
    return tuple([base] * bool(base) + [e for e in names if e != base])


def _groups(x: FloatArray, labels: Sequence[tuple[str, ...]]) -> list[list[int]]:
    """Rows of one alloy, in the order of their first."""
    groups: list[list[int]] = []
    for i in range(len(x)):
        for group in groups:
            j = group[0]
            if labels[i] == labels[j] and np.abs(x[i] - x[j]).max() <= SAME_ALLOY:
                group.append(i)
                break
        else:
            groups.append([i])
    return groups


def _merged(pairs: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean (k,) and its standard uncertainty of rows (m, k, 2), NaN where nothing tells it."""
    values, stated = pairs[:, :, 0], pairs[:, :, 1]
    m = len(values)
    known = np.isfinite(stated)
    # From what is stated of each (independent), and from their scatter (BIPM, Guide to the
    # Expression of Uncertainty in Measurement, 2008, 4.2 and 5.1).
    combined = np.sqrt((np.where(known, stated, 0.0) ** 2).sum(0)) / m
    combined = np.where(known.all(0), combined, 0.0)
    scatter = values.std(0, ddof=1) / math.sqrt(m) if m > 1 else np.zeros(values.shape[1])
    found = np.maximum(combined, scatter)
    nothing = (found == 0) & ~known.all(0)
    return values.mean(0), np.where(nothing, np.nan, found)
