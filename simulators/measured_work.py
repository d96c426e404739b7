"""Work lists for a laboratory, and the results that come back from it.

work list   one row a design: id; the rounds that wait for it; for alloys of one phase what to
            weigh in, in percent by atoms and by weight; PHASE:ELEMENT atomic fractions; process
            variables; labels; image, a PNG file of phase labels; and to be filled in, for each
            property ``PROPERTY [UNIT]`` and ``PROPERTY_uncertainty [UNIT]``
results     either a work list with its blanks filled in, or one row a value with the columns id,
            property, value, unit and, if known, uncertainty

A value may carry its uncertainty, as in ``1.52 ± 0.03``. An empty cell is not measured yet.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loop.candidate import Candidate
from loop.errors import InvalidInputError, unknown_name
from loop.formula import mass_fractions
from loop.laboratory import Measurement, Work
from simulators.measured_files import Rows, csv_text, read_number, read_uncertainty

RESULT_COLUMNS = ("id", "property", "value", "unit", "uncertainty")
UNCERTAINTY = "_uncertainty"
WEIGHED = ("at%", "wt%")
IGNORED = ("rounds", "image", "note", *WEIGHED)  # of a work list that comes back
SHORTEST_ID = 6
SAME = 1e-6  # relative; spreadsheets write fewer digits than they were given
_WITH_UNIT = re.compile(r"(.*?)\s*[\[(](.*)[\])]")
_DEVIATION = re.compile(r"±|\+/-|\+-")

Located = tuple[str, Measurement]


def recipe(candidate: Candidate) -> dict[str, float | str]:
    """What has to be made, by column: PHASE:ELEMENT atomic fractions, process variables, labels."""
    found: dict[str, float | str] = {}
    if candidate.phase_compositions is not None:
        for phase, fractions in zip(candidate.phases, candidate.phase_compositions, strict=True):
            for element, value in zip(candidate.elements, fractions, strict=True):
                found[f"{phase}:{element}"] = float(value)
    found.update(sorted(candidate.process.items()))
    found.update(sorted(candidate.labels.items()))
    return found


def weighed(candidate: Candidate) -> tuple[str, str]:
    """Percent by atoms and by weight of an alloy in words, largest first: ``Ni 79.40  Al 20.60``.

    Empty for a design that has an image, several phases or no composition.
    """
    x = candidate.phase_compositions
    if x is None or len(x) != 1 or candidate.microstructure is not None:
        return "", ""
    names = [name for name, amount in zip(candidate.elements, x[0], strict=True) if amount > 0]
    atoms = x[0][x[0] > 0]

    def words(fractions: NDArray[np.float64]) -> str:
        order = np.argsort(-fractions, kind="stable")
        return "  ".join(f"{names[i]} {100 * fractions[i]:.2f}" for i in order)

    return words(atoms), words(mass_fractions(atoms, names))


def image_file(candidate: Candidate) -> str:
    """Where a work list names the phase labels of a design, relative to itself."""
    return f"images/{candidate.id}.png"


def work_text(work: Sequence[Work], image: Callable[[Candidate], str] = image_file) -> str:
    """A work list as CSV; numbers are written in full, what has been told is filled in.

    ``image``: what stands for the picture of a design that has one.
    """
    units = _units(work)
    recipes = {w.candidate.id: recipe(w.candidate) for w in work}
    columns = list(dict.fromkeys(column for row in recipes.values() for column in row))
    pictured = any(w.candidate.microstructure is not None for w in work)
    results = [
        f"{name}{more}{'' if unit == '1' else f' [{unit}]'}"
        for name, unit in units.items()
        for more in ("", UNCERTAINTY)
    ]
    shares = [weighed(w.candidate) for w in work]
    alloys = all(text for pair in shares for text in pair)
    first = ["id", "rounds", *(WEIGHED if alloys else ())]
    rows: list[list[str]] = [[*first, *columns, *["image"] * pictured, *results]]
    for w, pair in zip(work, shares, strict=True):
        made = recipes[w.candidate.id]
        row = [w.candidate.id, "; ".join(f"{arm} {round_}" for arm, round_ in w.rounds)]
        row += pair if alloys else ()
        row += [_cell(made.get(column, "")) for column in columns]
        if pictured:
            row.append(image(w.candidate) if w.candidate.microstructure is not None else "")
        for name in units:
            m = w.told.get(name)
            row.append("" if m is None else repr(m.value))
            row.append("" if m is None or m.uncertainty is None else repr(m.uncertainty))
        rows.append(row)
    return csv_text(rows)


def _cell(value: float | str) -> str:
    return value if isinstance(value, str) else repr(value)


def read_results(table: Rows, work: Sequence[Work]) -> list[Located]:
    """The results of a file in either form, each with where it stands.

    ``work``: what was asked for; an id may be shortened. Raises InvalidInputError, naming line and
    column, for what cannot be read, a unit that is not the asked one, a recipe that is not the
    id's, and an id that begins several.
    """
    if "id" not in table.header:
        raise InvalidInputError(
            f"results {table.path} lack the column 'id'; take the ids from the work list"
        )
    table = _with_full_ids(table, work)
    if not {"property", "value"}.isdisjoint(table.header):
        found = _one_a_value(table)
    else:
        found = _one_a_design(table, work)
    if not found:
        raise InvalidInputError(
            f"results {table.path} have no value in any row; fill in what was measured"
        )
    return found


def full_id(given: str, ids: Collection[str], where: str) -> str:
    """The one of ``ids`` that begins with ``given``, six characters or more of it.

    What begins none comes back as it is. Raises InvalidInputError where several do.
    """
    if given in ids or len(given) < SHORTEST_ID:
        return given
    found = [id_ for id_ in ids if id_.startswith(given)]
    if len(found) > 1:
        raise InvalidInputError(f"{where}: {len(found)} ids begin with {given!r}; give more of it")
    return found[0] if found else given


def _with_full_ids(table: Rows, work: Sequence[Work]) -> Rows:
    ids = {w.candidate.id for w in work}
    rows = tuple(
        (line, {**cells, "id": full_id(cells["id"], ids, table.where(line, "id"))})
        for line, cells in table.rows
    )
    return Rows(table.path, table.header, rows)


def read_value(text: str, where: str) -> tuple[float, float | None]:
    """``"1.52"`` or ``"1.52 ± 0.03"`` (also +/-): value and uncertainty, None where not given."""
    value, *deviation = (part.strip() for part in _DEVIATION.split(text))
    if len(deviation) > 1:
        raise InvalidInputError(f"{where}: got {text!r}; expected VALUE or VALUE ± UNCERTAINTY")
    if deviation == [""]:
        raise InvalidInputError(f"{where}: got {text!r}; expected a number after ±")
    uncertainty = read_uncertainty(deviation[0], where) if deviation else None
    return read_number(value, where), uncertainty


def _units(work: Sequence[Work]) -> dict[str, str]:
    return {name: what.unit for w in work for name, what in w.wanted.items()}


def _result(
    row: tuple[str, str, str], value: str, deviation: str, places: tuple[str, str]
) -> Located:
    """A result of cells; ``row``: id, property, unit; ``places``: of value and uncertainty."""
    found, uncertainty = read_value(value, places[0])
    if deviation:
        if uncertainty is not None:
            raise InvalidInputError(
                f"{places[1]}: an uncertainty is given, and another beside the value; keep one"
            )
        uncertainty = read_uncertainty(deviation, places[1])
    id_, name, unit = row
    return places[0], Measurement(id_, name, found, unit, uncertainty)


def _check_blank(deviation: str, place: str) -> None:
    if deviation:
        raise InvalidInputError(f"{place}: empty, but an uncertainty is given")


def _one_a_value(table: Rows) -> list[Located]:
    for column in table.header:
        if column not in RESULT_COLUMNS:
            raise InvalidInputError(
                f"results {table.path}: " + unknown_name("column", column, RESULT_COLUMNS)
            )
    for column in RESULT_COLUMNS[:-1]:
        if column not in table.header:
            raise InvalidInputError(
                f"results {table.path} lack the column {column!r}; "
                f"expected {', '.join(RESULT_COLUMNS)}"
            )
    found = []
    for line, cells in table.rows:
        places = table.where(line, "value"), table.where(line, "uncertainty")
        deviation = cells.get("uncertainty", "")
        if not cells["value"]:
            _check_blank(deviation, places[0])
            continue
        row = (cells["id"], cells["property"], cells["unit"])
        found.append(_result(row, cells["value"], deviation, places))
    return found


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of results in a work list that came back."""

    name: str  # in the file
    property: str
    is_uncertainty: bool


def _one_a_design(table: Rows, work: Sequence[Work]) -> list[Located]:
    units = _units(work)
    designs = {w.candidate.id: recipe(w.candidate) for w in work}
    made = {column for row in designs.values() for column in row}
    columns = [c for name in table.header if (c := _column(table, name, units, made)) is not None]
    values = {c.property: c.name for c in columns if not c.is_uncertainty}
    deviations = {c.property: c.name for c in columns if c.is_uncertainty}
    for c in columns:
        if {True: deviations, False: values}[c.is_uncertainty][c.property] != c.name:
            raise InvalidInputError(
                f"results {table.path}: {c.property} has two columns, {c.name!r} and another; "
                "keep one"
            )
        if c.property not in values:
            raise InvalidInputError(
                f"results {table.path} have the column {c.name!r}, but none of {c.property}"
            )
    if not values:
        raise InvalidInputError(
            f"results {table.path} have no column with results; expected {', '.join(units)}"
        )
    found = []
    for line, cells in table.rows:
        told = []
        for name, column in values.items():
            place = table.where(line, column)
            deviation = cells[deviations[name]] if name in deviations else ""
            if not cells[column]:
                _check_blank(deviation, place)
                continue
            places = place, table.where(line, deviations.get(name, column))
            row = (cells["id"], name, units[name])
            told.append(_result(row, cells[column], deviation, places))
        if told:
            _check_recipe(table, line, cells, designs.get(cells["id"], {}))
        found += told
    return found


def _column(table: Rows, column: str, units: Mapping[str, str], made: set[str]) -> _Column | None:
    """The property whose results a column holds; None for one that describes the design."""
    if column == "id" or column in IGNORED or column in made:
        return None
    matched = _WITH_UNIT.fullmatch(column)
    name, unit = (matched[1], matched[2].strip()) if matched else (column, None)
    base = name.removesuffix(UNCERTAINTY)
    if name in units:  # a property may itself end so
        base = name
    if base not in units:
        known = [*units, *(n + UNCERTAINTY for n in units), "id", *IGNORED, *made]
        raise InvalidInputError(f"results {table.path}: " + unknown_name("column", name, known))
    if unit is not None and unit != units[base]:
        raise InvalidInputError(
            f"results {table.path}: column {column!r} is in {unit}; expected {units[base]}: "
            "convert the column, and write that unit"
        )
    return _Column(column, base, base != name)


def _check_recipe(
    table: Rows, line: int, cells: Mapping[str, str], made: Mapping[str, float | str]
) -> None:
    """Refuse a row whose design is not the id's: a table was sorted in part, or edited."""
    for column, wanted in made.items():
        if not cells.get(column):
            continue
        place = table.where(line, column)
        if isinstance(wanted, str):
            same, shown = cells[column] == wanted, wanted
        else:
            given = read_number(cells[column], place)
            same, shown = math.isclose(given, wanted, rel_tol=SAME, abs_tol=SAME), f"{wanted:g}"
        if not same:
            raise InvalidInputError(
                f"{place}: {cells[column]}, but the design {cells['id']} has {shown}; was the "
                "table sorted in part? Results count for the design of the work list"
            )
