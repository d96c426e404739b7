"""``graded``: phase fractions that change over the image, along a gradient or as a map says."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from interface.answers import (
    AlsoAsked,
    CampaignArgument,
    Number,
    OfAsked,
    Output,
    Pictures,
    Score,
    Seed,
    answer,
    asked_besides,
    check_new_files,
    read_fractions,
    read_size,
)
from interface.cli_common import JsonOption, LedgerOption, guarded
from interface.output import note, print_frame
from interface.sessions import trained_session
from loop.errors import InvalidInputError

Strength = Annotated[
    float,
    typer.Option(
        "--strength", metavar="S", min=0.0, max=15.0, help="0: as without it, above 1: amplified."
    ),
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", metavar="N", min=1, max=1_000_000, help="Of the training."),
]


class Along(StrEnum):
    """Which way the fraction changes."""

    x = "x"
    y = "y"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(graded)


@guarded
def graded(
    campaign: CampaignArgument,
    first: Annotated[
        float | None,
        typer.Option("--from", metavar="X", help="Fraction at the left (or top) edge."),
    ] = None,
    last: Annotated[
        float | None,
        typer.Option("--to", metavar="X", help="Fraction at the right (or bottom) edge."),
    ] = None,
    fractions: Annotated[
        list[Path] | None,
        typer.Option(
            "--map",
            metavar="FILE.png|npy",
            help="In their place any map, stretched over the image: grey 0 none, 255 all of the "
            "phase; of several phases one file for each after the first, or a .npy of "
            "(phases - 1, h, w) fractions.",
        ),
    ] = None,
    along: Annotated[Along, typer.Option("--along", help="Which way it changes.")] = Along.x,
    n: Number = 4,
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="HxW", help="Pixels; otherwise the campaign's images."),
    ] = None,
    phase: Annotated[
        str | None, typer.Option("--phase", metavar="NAME", help="Otherwise the second phase.")
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(
            "--window",
            metavar="PX",
            min=1,
            help="Met over so many px across the gradient, too; otherwise over the whole side. Of "
            "a map: over windows of that size, otherwise 16.",
        ),
    ] = None,
    strength: Strength = 1.0,
    steps: Steps = None,
    wishes: AlsoAsked = None,
    guidance: OfAsked = None,
    score: Score = False,
    output: Output = None,
    pictures: Pictures = None,
    seed: Seed = 0,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Designs in which the fraction of a phase goes from one value to another, or follows a map.

    What makes the trained generator follow a map of fractions is trained on first use (anew with
    --steps) and kept beside it. The table compares what was requested and found over 16 px.
    """
    check_new_files(output, pictures)
    shape = None if size is None else read_size("--size", size)
    if bool(fractions) == (first is not None or last is not None):
        raise InvalidInputError(
            "say what to follow: --from X --to X, or --map FILE, one of the two"
        )
    if not fractions and (first is None or last is None):
        raise InvalidInputError(
            "a gradient goes from one fraction to another; give --from and --to"
        )
    from dataclasses import replace

    from flows.graded import grade
    from generators.adaptation_control import ControlSettings
    from interface.progress import shown

    wanted = read_fractions(fractions) if fractions else (first or 0.0, last or 0.0)
    with shown() as progress, trained_session(campaign, ledger, progress) as session:
        besides = asked_besides(session, wishes, guidance)
        found = grade(
            session,
            wanted,
            n=n,
            along=along.value,
            shape=shape,
            phase=phase,
            settings=None if steps is None else replace(ControlSettings(), steps=steps),
            strength=strength,
            across=window,
            score=score,
            seed=seed,
            **besides,
        )
    if not as_json:
        print_frame(found.table)
    answer(found.proposal, output, pictures, as_json)
    errors = found.proposal.about["errors"]
    note(
        f"root mean square of requested less found: {errors['trend']:.3f} of the trend "
        f"({errors['trend_unguided']:.3f} unguided), {errors['windows']:.3f} of windows of 16 px "
        f"({errors['windows_unguided']:.3f})"
    )
