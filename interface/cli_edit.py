"""``edit``: designs like one, a damaged part drawn anew, a larger image, a finer one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from interface.cli_common import JsonOption, LedgerOption, guarded
from loop.errors import InvalidInputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DesignArgument = Annotated[
    str, typer.Argument(metavar="ID", help="A design's id, or how it begins.")
]
Guidance = Annotated[
    float,
    typer.Option("--guidance", metavar="S", min=0.0, max=15.0, help="Of the generator."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    group = typer.Typer(
        no_args_is_help=True,
        help="Edit designs and micrographs with the trained generator; the ledger stays as it is.",
    )
    for command in (vary, repair, extend, refine):
        group.command()(command)
    app.add_typer(group, name="edit")


@guarded
def vary(
    campaign: CampaignArgument,
    design: DesignArgument,
    n: Number = 8,
    strength: Annotated[
        float,
        typer.Option("--strength", metavar="X", min=0.01, max=1.0, help="1: an entirely new one."),
    ] = 0.4,
    guidance: Guidance = 1.0,
    score: Score = False,
    output: Output = None,
    pictures: Pictures = None,
    seed: Seed = 0,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Designs like one of the ledger: noised part of the way and taken back."""
    check_new_files(output, pictures)
    from flows.edit import Edits

    with trained_session(campaign, ledger) as session:
        start = session.ledger.candidate(design)
        edits = Edits(session, guidance=guidance, score=score, seed=seed)
        found = edits.vary(start, n, strength)
    answer(found, output, pictures, as_json)


@guarded
def repair(
    campaign: CampaignArgument,
    design: DesignArgument,
    mask: Annotated[
        Path, typer.Argument(metavar="MASK.png", help="What is not 0 is damaged; the image's size.")
    ],
    n: Number = 4,
    guidance: Guidance = 1.0,
    score: Score = False,
    output: Output = None,
    pictures: Pictures = None,
    seed: Seed = 0,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """A damaged region of a micrograph drawn anew, all other pixels as they are."""
    check_new_files(output, pictures)
    from flows.edit import Edits
    from loop.images import read_labels

    damaged = read_labels(mask) > 0
    with trained_session(campaign, ledger) as session:
        start = session.ledger.candidate(design)
        edits = Edits(session, guidance=guidance, score=score, seed=seed)
        found = edits.repair(start, damaged, n)
    answer(found, output, pictures, as_json)


@guarded
def extend(
    campaign: CampaignArgument,
    design: DesignArgument,
    size: Annotated[
        str, typer.Option("--size", metavar="HxW", help="Multiples of the image's sides.")
    ] = "128x128",
    guidance: Guidance = 1.0,
    score: Score = False,
    output: Output = None,
    pictures: Pictures = None,
    seed: Seed = 0,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """A larger periodic micrograph that holds the design's own in its corner."""
    check_new_files(output, pictures)
    shape = _size(size)
    from flows.edit import Edits

    with trained_session(campaign, ledger) as session:
        start = session.ledger.candidate(design)
        edits = Edits(session, guidance=guidance, score=score, seed=seed)
        found = edits.extend(start, shape)
    answer(found, output, pictures, as_json)


@guarded
def refine(
    campaign: CampaignArgument,
    image: Annotated[
        Path,
        typer.Argument(
            metavar="COARSE.png", help="Grey: 0 none, 255 all of a block is the second phase."
        ),
    ],
    n: Number = 4,
    guidance: Guidance = 1.0,
    score: Score = False,
    output: Output = None,
    pictures: Pictures = None,
    seed: Seed = 0,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fine micrographs, with compositions, for a coarse one of two phases."""
    check_new_files(output, pictures)
    from flows.edit import Edits
    from loop.images import read_labels

    coarse: NDArray[np.float64] = read_labels(image) / 255.0
    with trained_session(campaign, ledger) as session:
        edits = Edits(session, guidance=guidance, score=score, seed=seed)
        found = edits.refine(coarse, n)
    answer(found, output, pictures, as_json)


def _size(text: str) -> tuple[int, int]:
    """HxW in pixels."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.strip().isdigit() for part in parts):
        raise InvalidInputError(f"--size is {text!r}; expected HxW in pixels, such as 128x128")
    return int(parts[0]), int(parts[1])
