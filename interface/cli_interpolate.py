"""``interpolate``: the compositions between two alloys, or two candidates, and what they have."""

from __future__ import annotations

import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interface.cli_common import FLAG, JsonOption, LedgerOption, guarded, new_file, open_ledger
from interface.cli_read import Format, write_frame
from interface.output import json_text, note, print_frame, print_json, whole_file
from loop.errors import InvalidInputError

if TYPE_CHECKING:
    from interface.interpolation import Interpolation
    from loop.campaign import Campaign
    from loop.candidate import Candidate

MOST_STEPS = 100_000
_ID = re.compile(r"[0-9a-f]{4,32}")


class Way(StrEnum):
    """Which way to go."""

    line = "line"
    aitchison = "aitchison"
    feasible = "feasible"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(interpolate)


@guarded
def interpolate(
    first: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help='A composition ("Al0.3CoCrFeNi", "Ti-6Al-4V wt%") or a candidate\'s id.',
        ),
    ],
    last: Annotated[str, typer.Argument(metavar="B", help="The other end, of the same kind.")],
    path: Annotated[
        Way,
        typer.Option(
            "--path",
            help="Mixtures by the lever rule; equal steps in log ratios; or within the bounds.",
        ),
    ] = Way.line,
    steps: Annotated[
        int, typer.Option("--steps", metavar="N", min=2, max=MOST_STEPS, help="Points, with ends.")
    ] = 11,
    constraint: Annotated[
        list[str] | None,
        typer.Option(
            "--constraint",
            metavar="TEXT",
            help='"Ni + Co >= 0.5", "Al <= 30 %", "Ni:Al = 3:1", "at most 5 elements"; repeatable.',
        ),
    ] = None,
    zeros: Annotated[
        float | None,
        typer.Option(
            "--zeros",
            metavar="X",
            help="On an aitchison path: fraction at which an element enters that one end lacks.",
        ),
    ] = None,
    normalise: Annotated[
        bool, typer.Option("--normalise", metavar=FLAG, help="Scale fractions to a sum of 1.")
    ] = False,
    campaign: Annotated[
        Path | None,
        typer.Option("--campaign", metavar="DIR", help="Its elements, bounds and simulators."),
    ] = None,
    score: Annotated[
        bool, typer.Option("--score", metavar=FLAG, help="Run the campaign's simulators.")
    ] = False,
    format_: Annotated[
        Format | None, typer.Option("--format", help="Otherwise table, or by --output's ending.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="A new file.")
    ] = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """A path between two compositions as a table, every point re-scored by simulators if asked.

    Between two candidates of a ledger every phase moves along its own path; process variables
    move along, the micrograph stays that of the first.
    """
    from interface.interpolation import between_candidates, between_formulas, scored
    from loop.campaign import load_campaign

    if score and campaign is None:
        raise InvalidInputError("--score needs simulators; name a campaign with --campaign DIR")
    if zeros is not None and path is not Way.aitchison:
        raise InvalidInputError(f"--zeros is for --path aitchison; a {path} path may start at 0")
    if output is not None:
        new_file(output)
    chosen = _format(format_, output, as_json)
    loaded = None if campaign is None else load_campaign(campaign)
    space = None if loaded is None else loaded.space
    given = tuple(constraint or ())
    ids = [bool(_ID.fullmatch(end.strip())) for end in (first, last)]
    if all(ids):
        ends = _candidates(first, last, loaded, ledger)
        found = between_candidates(
            *ends, steps, path.value, constraints=given, space=space, delta=zeros
        )
        one, other = (end.microstructure for end in ends)
        if one is not None and (
            other is None or not (one.shape == other.shape and (one == other).all())
        ):
            note("the micrographs differ: that of the first candidate is kept throughout")
    elif any(ids):
        raise InvalidInputError(
            f"{first!r} and {last!r} are a candidate and a composition; give two of one kind"
        )
    else:
        found = between_formulas(
            first,
            last,
            steps,
            path.value,
            constraints=given,
            space=space,
            delta=zeros,
            normalise=normalise,
        )
    if score and loaded is not None:
        found = scored(found, loaded)
    _write(found, chosen, output, as_json)


def _candidates(
    first: str, last: str, campaign: Campaign | None, ledger: str | None
) -> tuple[Candidate, Candidate]:
    with open_ledger(ledger, campaign.name if campaign else None) as opened:
        return opened.candidate(first.strip()), opened.candidate(last.strip())


def _format(given: Format | None, output: Path | None, as_json: bool) -> Format:
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


def _write(found: Interpolation, chosen: Format, output: Path | None, as_json: bool) -> None:
    if output is not None:
        if chosen is Format.json:
            with whole_file(output) as draft:
                draft.write_text(json_text(found.document()), encoding="utf-8")
        else:
            write_frame(found.frame(), output, chosen)
        if as_json:
            print_json({"rows": len(found.t), "file": str(output)})
        else:
            print(f"{len(found.t)} rows written to {output}")
    elif chosen is Format.json:
        print_json(found.document())
    elif chosen is Format.csv:
        found.frame().to_csv(sys.stdout, index=False)
    elif chosen is Format.parquet:
        found.frame().to_parquet(sys.stdout.buffer, index=False)
    else:
        print_frame(found.shown())
        if found.feasible is not None and not found.feasible.all():
            outside = int((~found.feasible).sum())
            which = next(v for v in found.violations if v)
            print(f"{outside} of {len(found.t)} points are outside: {'; '.join(which)}")
