"""``edit``: designs like one, a part drawn anew, larger and finer images, one part by the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    design_named,
    read_fractions,
    read_size,
)
from interface.cli_common import FLAG, JsonOption, LedgerOption, guarded
from interface.sessions import trained_session
from loop.errors import InvalidInputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from flows.edit import Edits
    from loop.session import Session

DesignArgument = Annotated[
    str, typer.Argument(metavar="ID", help="A design's id, or how it begins.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    group = typer.Typer(
        no_args_is_help=True,
        help="Edit designs and micrographs with the trained generator; the ledger stays as it is.",
    )
    for command in (vary, repair, extend, refine, compose, picture):
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
    wishes: AlsoAsked = None,
    guidance: OfAsked = None,
    score: Score = False,
    output: Output = None,
    pictures: Pictures = None,
    seed: Seed = 0,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Designs like one of the ledger: noised part of the way and taken back.

    With --set they are like it, but have what is asked as far as the strength allows.
    """
    check_new_files(output, pictures)
    with trained_session(campaign, ledger) as session:
        start = session.ledger.candidate(design)
        edits = _edits(session, wishes, guidance, score, seed)
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
    wishes: AlsoAsked = None,
    guidance: OfAsked = None,
    score: Score = False,
    output: Output = None,
    pictures: Pictures = None,
    seed: Seed = 0,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """A damaged region of a micrograph drawn anew, all other pixels as they are."""
    check_new_files(output, pictures)
    from loop.images import read_labels

    damaged = read_labels(mask) > 0
    with trained_session(campaign, ledger) as session:
        start = session.ledger.candidate(design)
        edits = _edits(session, wishes, guidance, score, seed)
        found = edits.repair(start, damaged, n)
    answer(found, output, pictures, as_json)


@guarded
def extend(
    campaign: CampaignArgument,
    design: DesignArgument,
    size: Annotated[
        str, typer.Option("--size", metavar="HxW", help="Multiples of the image's sides.")
    ] = "128x128",
    score: Score = False,
    output: Output = None,
    pictures: Pictures = None,
    seed: Seed = 0,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """A larger micrograph with the design's own in its corner, periodic where it is larger."""
    check_new_files(output, pictures)
    shape = read_size("--size", size)
    with trained_session(campaign, ledger) as session:
        start = session.ledger.candidate(design)
        found = _edits(session, None, None, score, seed).extend(start, shape)
    answer(found, output, pictures, as_json)


@guarded
def refine(
    campaign: CampaignArgument,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="COARSE.png...",
            help="Grey: 0 none, 255 all of a block is the second phase; with more phases one file "
            "for each after the first, or a .npy of (phases - 1, h, w) fractions.",
        ),
    ],
    n: Number = 4,
    wishes: AlsoAsked = None,
    guidance: OfAsked = None,
    score: Score = False,
    output: Output = None,
    pictures: Pictures = None,
    seed: Seed = 0,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fine micrographs, with compositions, for a coarse one."""
    check_new_files(output, pictures)
    coarse = read_fractions(images)
    with trained_session(campaign, ledger) as session:
        edits = _edits(session, wishes, guidance, score, seed)
        found = edits.refine(coarse, n)
    answer(found, output, pictures, as_json)


@guarded
def compose(
    campaign: CampaignArgument,
    image: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE.png|ID",
            help="A label image as the campaign's own, or a design, whose image is taken.",
        ),
    ],
    n: Number = 8,
    wishes: AlsoAsked = None,
    guidance: OfAsked = None,
    score: Score = False,
    output: Output = None,
    pictures: Pictures = None,
    seed: Seed = 0,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Given this micrograph, which composition? Compositions and process drawn to go with it."""
    check_new_files(output, pictures)
    with trained_session(campaign, ledger) as session:
        edits = _edits(session, wishes, guidance, score, seed)
        found = edits.compose(_image(session, edits, image), n)
    answer(found, output, pictures, as_json)


@guarded
def picture(
    campaign: CampaignArgument,
    design: Annotated[
        str,
        typer.Argument(
            metavar="ID|COMPOSITION",
            help='A design, or compositions in words ("gamma: Ni-20Cr at%; gamma_prime: Ni3Al").',
        ),
    ],
    n: Number = 8,
    process: Annotated[
        list[str] | None,
        typer.Option("--process", metavar="NAME=VALUE", help="Of compositions; repeatable."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="NAME=VALUE", help="Of compositions; repeatable."),
    ] = None,
    normalise: Annotated[
        bool, typer.Option("--normalise", metavar=FLAG, help="Scale fractions to a sum of 1.")
    ] = False,
    wishes: AlsoAsked = None,
    guidance: OfAsked = None,
    score: Score = False,
    output: Output = None,
    pictures: Pictures = None,
    seed: Seed = 0,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Given this composition, which microstructure? Micrographs drawn to go with it."""
    check_new_files(output, pictures)
    with trained_session(campaign, ledger) as session:
        start = design_named(session, design, process, label, normalise=normalise)
        edits = _edits(session, wishes, guidance, score, seed)
        found = edits.picture(start, n)
    answer(found, output, pictures, as_json)


def _edits(
    session: Session, wishes: list[str] | None, guidance: float | None, score: bool, seed: int
) -> Edits:
    from flows.edit import Edits

    besides = asked_besides(session, wishes, guidance)
    return Edits(session, **besides, score=score, seed=seed)


def _image(session: Session, edits: Edits, text: str) -> NDArray[np.uint8]:
    """The image of a file, or of a design of the ledger."""
    from loop.images import SUFFIXES

    path = Path(text)
    if path.suffix.lower() in SUFFIXES or path.is_file():
        return edits.read_image(path)
    found = session.ledger.candidate(text).microstructure
    if found is None:
        raise InvalidInputError(f"design {text} has no micrograph; give an image file")
    return found
