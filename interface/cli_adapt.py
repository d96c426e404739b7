"""``adapt``: a new kind of micrographs from a handful of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interface import cli_graded
from interface.answers import (
    CampaignArgument,
    Number,
    Output,
    Pictures,
    Score,
    Seed,
    answer,
    check_new_files,
)
from interface.cli_common import FLAG, JsonOption, LedgerOption, from_here, guarded
from interface.cli_graded import Steps, Strength
from interface.output import note, print_frame
from interface.sessions import trained_session
from loop.errors import InvalidInputError


def register(app: typer.Typer) -> None:
    """Add the commands to the application, with ``graded``, whose branch is an adapter too."""
    app.command()(adapt)
    cli_graded.register(app)


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
