"""What commands share that ask a trained generator: the session, and the answer shown."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interface.cli_common import FLAG, chosen_ledger, default_ledger, new_file, program
from interface.labels import short_id
from interface.output import json_text, note, print_frame, print_json, rows, whole_file
from loop.errors import InvalidInputError, LedgerError

if TYPE_CHECKING:
    from flows.proposal import Proposal
    from loop.protocols import Progress
    from loop.session import Session

TABLES = (".csv", ".json")
PICTURES = (".png",)

# Options of such commands

CampaignArgument = Annotated[
    Path, typer.Argument(metavar="CAMPAIGN", help="A campaign that has been run.")
]
Number = Annotated[int, typer.Option("-n", metavar="N", min=1, max=4096, help="Designs.")]
Score = Annotated[
    bool, typer.Option("--score", metavar=FLAG, help="Have the simulators evaluate them.")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", metavar="FILE.csv|json", help="The designs, as a new file."),
]
Pictures = Annotated[
    Path | None, typer.Option("--pictures", metavar="FILE.png", help="Their micrographs.")
]
Seed = Annotated[
    int, typer.Option("--seed", metavar="N", min=0, help="Another one: other designs.")
]


@contextmanager
def trained_session(
    campaign: Path, ledger: str | None, progress: Progress | None = None
) -> Iterator[Session]:
    """The campaign's session on a ledger that exists: nothing is begun here.

    Raises LedgerError where there is none.
    """
    from flows.assembly import open_session
    from loop.campaign import load_campaign
    from loop.database import sqlite_path
    from loop.protocols import silent

    name = load_campaign(campaign).name
    place = chosen_ledger(ledger) or default_ledger(name)
    path = sqlite_path(place)
    if path is not None and not path.exists():
        raise LedgerError(
            f"campaign {name!r} has no trained generator yet: there is no ledger {path}; run it "
            f"first ({program()} run {shlex.quote(str(campaign))}) or name its ledger with --ledger"
        )
    session = open_session(campaign, place, progress=progress or silent)
    with session.ledger:
        yield session


def check_new_files(output: Path | None, pictures: Path | None) -> None:
    """Raise InvalidInputError for a file that is there already, or of another kind."""
    for path, endings in ((output, TABLES), (pictures, PICTURES)):
        if path is not None and new_file(path).suffix.lower() not in endings:
            raise InvalidInputError(f"{path}: expected a name that ends in {' or '.join(endings)}")


def answer(found: Proposal, output: Path | None, pictures: Path | None, as_json: bool) -> None:
    """Show designs and write them to new files where those are named."""
    for warning in found.warnings:
        note(f"warning: {warning}")
    document = {
        **found.about,
        "warnings": list(found.warnings),
        "designs": rows(found.table()),
        "pictures": None if pictures is None else str(pictures),
    }
    if output is not None:
        _write(found, document, output)
    drawn = pictures is not None and _draw(found, pictures)
    if as_json:
        print_json(document)
        return
    shown = found.frame()
    shown["id"] = [short_id(one) for one in shown["id"]]
    print_frame(shown)
    if output is not None:
        note(f"designs: {output}")
    if pictures is not None:
        note(f"micrographs: {pictures}" if drawn else "the designs have no micrographs")


def _write(found: Proposal, document: dict[str, Any], path: Path) -> None:
    """The table; JSON also has each design's image as rows of phase labels."""
    with whole_file(path) as draft:
        if path.suffix.lower() == ".csv":
            found.table().to_csv(draft, index=False)
            return
        designs = [
            row | {"phases": design.phases, "microstructure": design.microstructure}
            for row, design in zip(document["designs"], found.designs, strict=True)
        ]
        draft.write_text(json_text(document | {"designs": designs}), encoding="utf-8")


def _draw(found: Proposal, path: Path) -> bool:
    """Write the micrographs; whether there are any."""
    drawn = found.pictures()
    if drawn is None:
        return False
    from PIL import Image

    with whole_file(path) as draft:
        Image.fromarray(drawn).save(draft, format="PNG")
    return True
