"""``walk``: designs between two designs, micrograph and compositions together, each one scored."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from interface.cli_common import JsonOption, LedgerOption, default_ledger, guarded, new_file
from interface.labels import short_id
from interface.output import note, print_frame, print_json, rows, whole_file


class Way(StrEnum):
    """How the two are mixed."""

    slerp = "slerp"
    linear = "linear"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(walk)


@guarded
def walk(
    campaign: Annotated[
        Path, typer.Argument(metavar="CAMPAIGN", help="A campaign that has been run.")
    ],
    first: Annotated[str, typer.Argument(metavar="A", help="A design's id, or how it begins.")],
    last: Annotated[str, typer.Argument(metavar="B", help="The other end.")],
    steps: Annotated[
        int, typer.Option("--steps", metavar="N", min=2, max=1000, help="Designs, with ends.")
    ] = 9,
    path: Annotated[
        Way, typer.Option("--path", help="Along the sphere of the noise, or straight.")
    ] = Way.slerp,
    depth: Annotated[
        float | None,
        typer.Option(
            "--depth",
            metavar="X",
            min=0.01,
            max=1.0,
            help="How far back to noise both are taken; half way if not said.",
        ),
    ] = None,
    guidance: Annotated[
        float, typer.Option("--guidance", metavar="S", min=0.0, max=15.0, help="For --follow.")
    ] = 2.0,
    follow: Annotated[
        list[str] | None,
        typer.Option("--follow", metavar="PROPERTY", help="Shall move evenly; repeatable."),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", metavar="FILE.png", help="The micrographs as a strip."),
    ] = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Designs between two designs by the trained generator, each scored by the simulators.

    Both are carried back toward noise, mixed there and brought forward again. Nothing is added
    to the ledger.
    """
    if picture is not None:
        new_file(picture)
    from flows.assembly import open_session
    from flows.walk import walk as walk_between
    from generators.editor import DEPTH
    from interface.cli_common import chosen_ledger
    from loop.campaign import load_campaign

    place = chosen_ledger(ledger) or default_ledger(load_campaign(campaign).name)
    session = open_session(campaign, place)
    with session.ledger:
        found = walk_between(
            session,
            session.ledger.candidate(first),
            session.ledger.candidate(last),
            steps,
            path=path.value,
            depth=DEPTH if depth is None else depth,
            guidance=guidance,
            follow=follow or (),
        )
    frame = found.frame()
    strip = found.strip()
    if picture is not None and strip is not None:
        from PIL import Image

        with whole_file(picture) as draft:
            Image.fromarray(strip).save(draft, format="PNG")
    if as_json:
        print_json({"designs": rows(frame), "picture": None if picture is None else str(picture)})
        return
    shown = frame[[c for c in frame.columns if not c.endswith(("_low", "_high"))]].copy()
    shown["id"] = [short_id(one) for one in shown["id"]]
    print_frame(shown)
    if picture is not None:
        note(f"micrographs: {picture}" if strip is not None else "the designs have no micrographs")
