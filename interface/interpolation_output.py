"""What ``interpolate`` prints and writes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from interface.cli_read import Format, write_rows
from interface.output import print_frame, print_json
from loop.errors import InvalidInputError

if TYPE_CHECKING:
    from interface.interpolation import Interpolation


def chosen_format(given: Format | None, output: Path | None, as_json: bool) -> Format:
    """The format asked for, or that of the file's ending.

    Raises InvalidInputError for another ending, and for parquet on a terminal.
    """
    if given is Format.parquet and output is None and sys.stdout.isatty():
        raise InvalidInputError("parquet is not text; name a file with --output or use a pipe")
    if given is not None:
        return given
    if output is None:
        return Format.json if as_json else Format.table
    ending = output.suffix.lstrip(".").lower()
    if ending in (Format.csv, Format.json, Format.parquet):
        return Format(ending)
    raise InvalidInputError(
        f"--output is {output}; expected a name that ends in .csv, .json or .parquet, or --format"
    )


def write(found: Interpolation, chosen: Format, output: Path | None, as_json: bool) -> None:
    """The path as a table for people, a document or a file."""
    if output is not None:
        write_rows(found.document, found.frame(), output, chosen, as_json=as_json)
    elif chosen is Format.json:
        print_json(found.document())
    elif chosen is Format.csv:
        found.frame().to_csv(sys.stdout, index=False)
    elif chosen is Format.parquet:
        found.frame().to_parquet(sys.stdout.buffer, index=False)
    else:
        print_frame(found.shown())
        if found.predicted is not None:
            print(found.predicted.told())
        if found.mended is not None and found.mended.fidelity == "predicted":
            print(f"{found.mended.name} moves one way as predicted; what will be found may not")
        if found.feasible is not None and not found.feasible.all():
            outside = int((~found.feasible).sum())
            which = next(v for v in found.violations if v)
            print(f"{outside} of {len(found.t)} points are outside: {'; '.join(which)}")
