"""What commands print: tables for people, one JSON document for machines."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

HEADING_WIDTH = 8  # of a heading's line where room is scarce
SHORT_CELL = 16  # what is not longer is not folded


def plain(value: Any) -> Any:
    """A value as strict JSON allows it: NaN and infinities become null, arrays lists."""
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return plain(value.tolist())
    return str(value)


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame as JSON-able dictionaries."""
    objects = frame.astype(object).where(frame.notna(), None)  # whatever pandas calls missing
    return [plain(row) for row in objects.to_dict(orient="records")]


def json_text(document: Any) -> str:
    """A document as strict JSON."""
    return json.dumps(plain(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json_text(document))


def harmless(text: str) -> str:
    """Text on one line without control codes: what data holds must not steer a terminal."""
    return "".join(c if c.isprintable() else "�" for c in " ".join(text.split()))


def cell(value: Any) -> str:
    """A value as a table shows it: five significant digits, an empty cell where there is none."""
    value = plain(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False)
    return harmless(str(value))


def _broken(name: str, width: int) -> str:
    """A heading on several lines, broken after underscores where it is longer than ``width``."""
    lines = [""]
    for part in re.findall(r"[^_]*_|[^_]+$", name):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def print_table(
    columns: Sequence[str] | Mapping[str, str],
    lines: Iterable[Mapping[str, Any]],
    *,
    title: str | None = None,
) -> None:
    """A table on stdout; numbers to the right, nothing cut off when it goes to a pipe.

    ``columns``: the keys of the lines that are shown, or key -> heading.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    lines = [{name: plain(line.get(name)) for name in columns} for line in lines]
    headings = columns if isinstance(columns, Mapping) else {name: name for name in columns}
    cells = {name: [cell(line[name]) for line in lines] for name in columns}
    natural = sum(max(map(len, [headings[n], *cells[n]]), default=0) + 2 for n in columns) + 1
    # Where it goes to a file or pipe there is all the room it needs.
    console = Console(width=None if sys.stdout.isatty() else max(natural, 20), highlight=False)
    scarce = natural > console.width
    shown = {n: _broken(headings[n], HEADING_WIDTH) if scarce else headings[n] for n in columns}
    # Short cells stay whole and long text folds, if that leaves room for every column.
    needed = {
        n: max((min(len(text), SHORT_CELL) for text in [*shown[n].split(), *cells[n]]), default=1)
        for n in columns
    }
    fits = sum(width + 2 for width in needed.values()) < console.width
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in columns:
        numeric = any(isinstance(line[name], (int, float)) for line in lines)
        table.add_column(
            shown[name],
            justify="right" if numeric else "left",
            overflow="fold",
            min_width=needed[name] if fits else None,
        )
    for row in zip(*cells.values(), strict=True):
        table.add_row(*map(Text, row))
    with console.capture() as captured:
        console.print(table)
    # Cells are padded to their column; nothing after the last one is worth keeping.
    sys.stdout.write("\n".join(line.rstrip() for line in captured.get().strip("\n").split("\n")))
    sys.stdout.write("\n")


def print_frame(frame: pd.DataFrame, *, title: str | None = None) -> None:
    """A frame as a table on stdout; columns without any value are left out."""
    lines = rows(frame)
    names = [str(name) for name in frame.columns]
    kept = [name for name in names if not lines or any(cell(line[name]) for line in lines)]
    print_table(kept, lines, title=title)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside ``path``, with its ending, that takes its place when the block is done.

    Where the block fails (a full disk), what it wrote is removed and ``path`` is as before.
    """
    draft = path.with_name(f".part-{path.name}")
    try:
        yield draft
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def note(text: str) -> None:
    """A line for the reader on stderr, where it does not mix with results."""
    print(text, file=sys.stderr, flush=True)
