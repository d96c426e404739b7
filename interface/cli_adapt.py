"""``adapt`` and ``graded``: new kinds of micrographs from a handful, and fractions along a map."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from interface.answers import (
    CampaignArgument,
    Number,
    Output,
    Pictures,
    Score,
    Seed,
    answer,
    check_new_files,
    trained_session,
)
from interface.cli_common import FLAG, JsonOption, LedgerOption, from_here, guarded
from interface.output import note, print_frame
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
    """Add the commands to the application."""
    app.command()(adapt)
    app.command()(graded)


@guarded
def adapt(
    campaign: CampaignArgument,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            metavar="FOLDER",
            help="4 to 16 label images of the new kind; without it the adapter NAME is used again.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Of the adapter; otherwise the folder's."),
    ] = None,
    n: Number = 8,
    strength: Strength = 1.0,
    steps: Steps = None,
    turned: Annotated[
        bool,
        typer.Option("--turned", metavar=FLAG, help="Learn quarter turns of the images, too."),
    ] = False,
    score: Score = False,
    output: Output = None,
    pictures: Pictures = None,
    seed: Seed = 0,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Teach the trained generator a new kind of micrographs from a handful of them.

    The generator itself stays as it is: an adapter is trained and kept beside it. The table
    compares what it then proposes with the new micrographs, the library and the generator alone.
    """
    check_new_files(output, pictures)
    if images is None and name is None:
        raise InvalidInputError(
            "say what is new: --images FOLDER of label images, or --name of an adapter to use again"
        )
    if images is None and (steps is not None or turned):
        raise InvalidInputError("--steps and --turned are for training; add --images FOLDER")
    from dataclasses import replace

    from flows.adaptation import adapt_to
    from generators.adaptation import AdaptSettings
    from interface.progress import shown

    settings = AdaptSettings(turned=turned)
    if steps is not None:
        settings = replace(settings, steps=steps)
    called = name or (images.resolve().name if images is not None else "")
    with shown() as progress, trained_session(campaign, ledger, progress) as session:
        found = adapt_to(
            session,
            images,
            name=called,
            n=n,
            settings=settings,
            strength=strength,
            score=score,
            seed=seed,
        )
    if not as_json:
        print_frame(found.table)
    answer(found.proposal, output, pictures, as_json)
    if found.trained:
        note(f"adapter {called}: {from_here(found.path)}; use it again with --name {called}")


@guarded
def graded(
    campaign: CampaignArgument,
    first: Annotated[
        float, typer.Option("--from", metavar="X", help="Fraction at the left (or top) edge.")
    ],
    last: Annotated[
        float, typer.Option("--to", metavar="X", help="Fraction at the right (or bottom) edge.")
    ],
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
            help="Met over so many px across the gradient, too; otherwise over the whole side.",
        ),
    ] = None,
    strength: Strength = 1.0,
    steps: Steps = None,
    score: Score = False,
    output: Output = None,
    pictures: Pictures = None,
    seed: Seed = 0,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Designs in which the fraction of a phase goes from one value to another.

    What makes the trained generator follow a map of fractions is trained on first use (anew with
    --steps) and kept beside it. The table compares what was requested and found over 16 px.
    """
    check_new_files(output, pictures)
    shape = None if size is None else _size(size)
    from dataclasses import replace

    from flows.graded import grade
    from generators.adaptation_control import ControlSettings
    from interface.progress import shown

    with shown() as progress, trained_session(campaign, ledger, progress) as session:
        found = grade(
            session,
            first,
            last,
            n=n,
            along=along.value,
            shape=shape,
            phase=phase,
            settings=None if steps is None else replace(ControlSettings(), steps=steps),
            strength=strength,
            across=window,
            score=score,
            seed=seed,
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


def _size(text: str) -> tuple[int, int]:
    """HxW in pixels."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.strip().isdigit() for part in parts):
        raise InvalidInputError(f"--size is {text!r}; expected HxW in pixels, such as 64x128")
    return int(parts[0]), int(parts[1])
