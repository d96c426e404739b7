"""The files between the program and a laboratory: work lists out, results in, tables to replay.

All are UTF-8 CSV with commas between columns and points in decimal fractions.

work list   id; PHASE:ELEMENT atomic fractions; process variables; image: PNG file of phase labels,
            beside the list; one row a design
results     id, property, value, unit and, if known, uncertainty: the standard uncertainty (one
            standard deviation) in the same unit; one row a measured value
table       to replay: either id, or PHASE:ELEMENT and process columns; a column for each property
            and, if known, PROPERTY_uncertainty; one row a design
"""

from __future__ import annotations

import contextlib
import csv
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path

from loop.candidate import Candidate
from loop.errors import InvalidInputError, unknown_name

RESULT_COLUMNS = ("id", "property", "value", "unit", "uncertainty")
OPTIONAL = ("uncertainty",)
LARGEST_NUMBER = 1e300


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measured value of one candidate, with its standard uncertainty in the same unit.

    ``uncertainty`` None: not known. Raises InvalidInputError for values that are not finite and
    a negative uncertainty.
    """

    id: str
    property: str
    value: float
    unit: str
    uncertainty: float | None = None

    def __post_init__(self) -> None:
        what = f"{self.property} of {self.id}"
        if not abs(self.value) <= LARGEST_NUMBER:
            raise InvalidInputError(f"{what} is {self.value}; expected a finite number")
        u = self.uncertainty
        if u is not None and not 0 <= u <= LARGEST_NUMBER:
            raise InvalidInputError(
                f"uncertainty of {what} is {u:g}; expected a finite number >= 0, or none where it "
                "is not known"
            )


@dataclass(frozen=True, slots=True)
class Rows:
    """A CSV file: its header, and for every row the line it ends on and its cells by column."""

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[int, Mapping[str, str]], ...]

    def where(self, line: int, column: str) -> str:
        return f"{self.path}, line {line}, column {column}"


def read_rows(path: Path, what: str) -> Rows:
    """A CSV file with a header; blank lines are skipped, cells stripped.

    ``what``: what the file is, for messages. Raises InvalidInputError for a file that is missing,
    empty or no UTF-8 CSV, another separator, a column named twice, and rows of another length.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = list(_lines(stream))
    except FileNotFoundError:
        raise InvalidInputError(f"no {what} at {path}; give a CSV file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInputError(f"cannot read {what} {path}: {reason}; expected CSV") from None
    if not lines:
        raise InvalidInputError(f"{what} {path} is empty; expected a header and rows")
    header = lines[0][1]
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        raise InvalidInputError(
            f"{what} {path} separates columns by {'semicolons' if ';' in header[0] else 'tabs'}; "
            "expected commas, and points in decimal fractions"
        )
    for column in header:
        if header.count(column) > 1:
            raise InvalidInputError(
                f"{what} {path}: column {column!r} appears twice; keep one of them"
            )
    for line, cells in lines[1:]:
        if len(cells) != len(header):
            raise InvalidInputError(
                f"{what} {path}, line {line}: {len(cells)} fields, the header has {len(header)}; "
                "use points, not commas, in decimal fractions"
            )
    return Rows(
        path,
        tuple(header),
        tuple((line, dict(zip(header, cells, strict=True))) for line, cells in lines[1:]),
    )


def _lines(stream: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(stream, strict=True)
    for row in reader:
        if any(cell.strip() for cell in row):
            yield reader.line_num, [cell.strip() for cell in row]


def read_number(text: str, where: str) -> float:
    """A finite number as written in a cell; InvalidInputError, its text starting with ``where``."""
    try:
        value = float(text)
    except ValueError:
        if "," in text:
            raise InvalidInputError(f"{where}: {text!r} has a decimal comma; use a point") from None
        came = repr(text) if text else "nothing"
        raise InvalidInputError(f"{where}: got {came}; expected a number") from None
    if not abs(value) <= LARGEST_NUMBER:
        raise InvalidInputError(f"{where}: got {text}; expected a finite number")
    return value


def read_uncertainty(text: str, where: str) -> float | None:
    """As ``read_number``, >= 0; None for an empty cell."""
    if not text:
        return None
    value = read_number(text, where)
    if value < 0:
        raise InvalidInputError(f"{where}: got {text}; expected an uncertainty >= 0")
    return value


def read_results(path: Path) -> list[tuple[int, Measurement]]:
    """Results with their line numbers; a row whose value is empty is not measured yet, and left.

    Raises InvalidInputError, naming line and column, for what cannot be read.
    """
    table = read_rows(path, "results")
    for column in table.header:
        if column not in RESULT_COLUMNS:
            raise InvalidInputError(
                f"results {path}: " + unknown_name("column", column, RESULT_COLUMNS)
            )
    for column in RESULT_COLUMNS:
        if column not in table.header and column not in OPTIONAL:
            raise InvalidInputError(
                f"results {path} lack the column {column!r}; expected {', '.join(RESULT_COLUMNS)}"
            )
    found = []
    for line, row in table.rows:
        uncertain = row.get("uncertainty", "")
        if not row["value"]:
            if uncertain:
                raise InvalidInputError(
                    f"{table.where(line, 'value')}: empty, but an uncertainty is given"
                )
            continue
        measurement = Measurement(
            row["id"],
            row["property"],
            read_number(row["value"], table.where(line, "value")),
            row["unit"],
            read_uncertainty(uncertain, table.where(line, "uncertainty")),
        )
        found.append((line, measurement))
    return found


def results_text(measurements: Sequence[Measurement], wanted: Sequence[tuple[str, ...]]) -> str:
    """CSV of results; ``wanted``: (id, property, unit) rows to be filled in."""
    rows: list[Sequence[object]] = [RESULT_COLUMNS]
    for m in measurements:
        u = "" if m.uncertainty is None else repr(m.uncertainty)
        rows.append((m.id, m.property, repr(m.value), m.unit, u))
    rows += [(id_, name, "", unit, "") for id_, name, unit in wanted]
    return csv_text(rows)


def recipe_columns(candidate: Candidate) -> dict[str, str]:
    """One row of a work list: what has to be made. Numbers are written in full."""
    row = {"id": candidate.id}
    x = candidate.phase_compositions
    if x is not None:
        for phase, fractions in zip(candidate.phases, x, strict=True):
            for element, value in zip(candidate.elements, fractions, strict=True):
                row[f"{phase}:{element}"] = repr(float(value))
    row.update({name: repr(value) for name, value in sorted(candidate.process.items())})
    if candidate.microstructure is not None:
        row["image"] = f"images/{candidate.id}.png"
    return row


def csv_text(rows: Sequence[Sequence[object]]) -> str:
    stream = StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def png_bytes(candidate: Candidate) -> bytes:
    """The candidate's phase labels as a greyscale PNG, a pixel's value its phase."""
    from PIL import Image

    assert candidate.microstructure is not None  # only designs with an image have one to write
    stream = BytesIO()
    Image.fromarray(candidate.microstructure).save(stream, format="PNG")
    return stream.getvalue()


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all; InvalidInputError where it cannot be written."""
    data = content.encode() if isinstance(content, str) else content
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as stream:
            temporary = Path(stream.name)
            stream.write(data)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
        raise InvalidInputError(
            f"cannot write {path}: {error.strerror or error}; nothing of it was written"
        ) from None
