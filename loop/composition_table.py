"""The CSV of phase compositions: columns PHASE:ELEMENT, one design per row, atomic fractions."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loop.errors import InvalidInputError, unknown_name
from loop.formula import check_symbol

# Wide enough for figures printed with six decimals or more; what is read is then closed exactly.
ROUNDING_TOLERANCE = 1e-5


def no_utf8(data: bytes) -> str:
    """What is wrong with the content of a file that is no UTF-8, and how a spreadsheet mends it."""
    found = "its text is UTF-16"
    if data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        start = len(data)
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as error:
            start = error.start
        line = data.count(b"\n", 0, start) + 1
        found = f"line {line} is not UTF-8, perhaps Latin-1"
    return f"{found}; save it as UTF-8 (in a spreadsheet as 'CSV UTF-8')"


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            for row in reader:
                if any(cell.strip() for cell in row):
                    yield reader.line_num, [cell.strip() for cell in row]
    except FileNotFoundError:
        raise InvalidInputError(
            f"no compositions file at {path}; give a CSV with columns PHASE:ELEMENT"
        ) from None
    except UnicodeDecodeError:
        raise InvalidInputError(
            f"cannot read compositions {path}: {no_utf8(path.read_bytes())}"
        ) from None
    except (OSError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInputError(
            f"cannot read compositions {path}: {reason}; expected a UTF-8 CSV file"
        ) from None


def read_header(path: Path) -> list[str]:
    """Column names of a compositions CSV.

    Raises InvalidInputError for an empty file, another separator than the comma, a column named
    twice, or an element that does not exist.
    """
    first = next(_rows(path), None)
    if first is None:
        raise InvalidInputError(
            f"compositions {path} is empty; expected a header with columns PHASE:ELEMENT and rows"
        )
    header = first[1]
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and separator in header[0]:
            raise InvalidInputError(
                f"compositions {path} separates columns by {name}; expected commas, and points in "
                "decimal fractions"
            )
    for column in header:
        if header.count(column) > 1:
            raise InvalidInputError(
                f"compositions {path}: column {column!r} appears twice; keep one of them"
            )
        if ":" in column:
            check_symbol(column.rpartition(":")[2].strip(), f"compositions {path}, column {column}")
    return header


def table_names(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(phases, elements) of a compositions CSV, each in the order of first mention.

    Raises InvalidInputError when no column has the form PHASE:ELEMENT.
    """
    pairs = [c.rpartition(":") for c in read_header(path) if ":" in c]
    if not pairs:
        raise InvalidInputError(
            f"compositions {path} has no column PHASE:ELEMENT (such as gamma:Ni); "
            "rename its columns"
        )
    phases = tuple(dict.fromkeys(phase.strip() for phase, _, _ in pairs))
    elements = tuple(dict.fromkeys(element.strip() for _, _, element in pairs))
    return phases, elements


def read_compositions(
    path: Path, phases: Sequence[str], elements: Sequence[str]
) -> NDArray[np.float64]:
    """Phase compositions, (n, p, e) float64, rows closed to sum 1, zeros exactly 0.

    Columns without a colon (names, remarks, labels) are left aside. Raises InvalidInputError,
    naming line and column, for a missing or unknown column, a value that is no number, negative or
    not finite, and a composition whose sum is off 1 by more than the rounding of its figures.
    """
    header = read_header(path)
    columns = [f"{phase}:{element}" for phase in phases for element in elements]
    for column in header:
        if ":" in column and column not in columns:
            phase, _, element = column.rpartition(":")
            problem = (
                unknown_name("phase", phase, phases)
                if phase not in phases
                else unknown_name("element", element, elements)
            )
            raise InvalidInputError(
                f"compositions {path}, column {column} is not of this space: {problem}"
            )
    for column in columns:
        if column not in header:
            raise InvalidInputError(
                f"compositions {path} lacks the column {column!r}; add it (0 where the element is "
                "absent)"
            )
    places = [header.index(column) for column in columns]
    values: list[list[float]] = []
    lines: list[int] = []
    for line, row in _rows(path):
        if not lines and row == header and not values:
            lines.append(line)
            continue
        if len(row) != len(header):
            raise InvalidInputError(
                f"compositions {path}, line {line}: {len(row)} fields, the header has "
                f"{len(header)}; use points, not commas, in decimal fractions"
            )
        values.append([_number(path, line, header[place], row[place]) for place in places])
        lines.append(line)
    if not values:
        raise InvalidInputError(f"compositions {path} has a header but no rows; add designs")
    x = np.array(values).reshape(len(values), len(phases), len(elements))
    sums = x.sum(axis=2)
    wrong = np.argwhere(np.abs(sums - 1.0) > ROUNDING_TOLERANCE)
    if len(wrong):
        row_number, phase_number = wrong[0]
        total = sums[row_number, phase_number]
        hint = (
            "these look like percentages, divide by 100"
            if 99.0 < total < 101.0
            else "give atomic fractions of all elements"
        )
        raise InvalidInputError(
            f"compositions {path}, line {lines[row_number + 1]}: {phases[phase_number]} sums to "
            f"{total:.9g}; expected 1; {hint}"
        )
    closed: NDArray[np.float64] = x / sums[:, :, None]
    return closed


def read_labels_of_rows(path: Path, names: Iterable[str]) -> dict[str, list[str]]:
    """Label -> its text in every row, of those labels of ``names`` that are columns of the file.

    The file is one that ``read_compositions`` has read. Raises InvalidInputError, naming line and
    column, for an empty cell.
    """
    header = read_header(path)
    places = {name: header.index(name) for name in names if name in header}
    texts: dict[str, list[str]] = {name: [] for name in places}
    rows = _rows(path)
    next(rows)  # the header
    for line, row in rows if places else ():
        for name, place in places.items():
            if not row[place]:
                raise InvalidInputError(
                    f"compositions {path}, line {line}, column {name}: got nothing; expected the "
                    "value of that label (leave the row out where it is not known)"
                )
            texts[name].append(row[place])
    return texts


def _number(path: Path, line: int, column: str, text: str) -> float:
    where = f"compositions {path}, line {line}, column {column}"
    try:
        value = float(text)
    except ValueError:
        if "," in text:
            raise InvalidInputError(f"{where}: {text!r} has a decimal comma; use a point") from None
        came = repr(text) if text else "nothing"
        raise InvalidInputError(
            f"{where}: got {came}; expected a number (0 where the element is absent)"
        ) from None
    if not math.isfinite(value):
        raise InvalidInputError(f"{where}: got {text}; expected a finite fraction from 0 to 1")
    if value < 0:
        raise InvalidInputError(f"{where}: got {text}; expected a fraction >= 0")
    return value
