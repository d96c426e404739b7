"""CSV files between the program and a laboratory: reading with place names, writing whole.

All are UTF-8 with commas between columns and points in decimal fractions. ``measured_work`` says
what stands in work lists and results, ``measured_table`` what in tables to replay.
"""

from __future__ import annotations

import contextlib
import csv
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path

from loop.candidate import Candidate
from loop.composition_table import no_utf8
from loop.errors import InvalidInputError
from loop.laboratory import LARGEST_NUMBER


@dataclass(frozen=True, slots=True)
class Rows:
    """A CSV file: its header, and for every row the line it ends on and its cells by column.

    ``path``: of the file, or what stands for it in messages.
    """

    path: Path | str
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
        data = path.read_bytes()
    except FileNotFoundError:
        raise InvalidInputError(f"no {what} at {path}; give a CSV file") from None
    except OSError as error:
        raise InvalidInputError(
            f"cannot read {what} {path}: {error.strerror or error}; expected CSV"
        ) from None
    return parse_rows(data, path, what)


def parse_rows(data: bytes, path: Path | str, what: str) -> Rows:
    """As ``read_rows``, from the content of a file; ``path`` stands for it in messages."""
    try:
        lines = list(_lines(StringIO(data.decode("utf-8-sig"), newline="")))
    except UnicodeDecodeError:
        raise InvalidInputError(f"cannot read {what} {path}: {no_utf8(data)}") from None
    except csv.Error as error:
        raise InvalidInputError(f"cannot read {what} {path}: {error}; expected CSV") from None
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


def _lines(stream: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
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
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
        raise InvalidInputError(
            f"cannot write {path}: {error.strerror or error}; nothing of it was written"
        ) from None
