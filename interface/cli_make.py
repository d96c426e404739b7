"""``new``, ``export``, ``verify`` and ``serve``."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interface.cli_common import (
    FLAG,
    CampaignOption,
    JsonOption,
    LedgerOption,
    from_here,
    guarded,
    open_ledger,
    program,
)
from interface.output import note, print_json, print_table

if TYPE_CHECKING:
    from loop.verification import Case

EXIT_MISS = 1


class Room(StrEnum):
    """What ``verify`` checks."""

    simulators = "simulators"
    generators = "generators"
    composition = "composition"
    all = "all"


class TableFormat(StrEnum):
    """Tables of an export."""

    csv = "csv"
    json = "json"
    parquet = "parquet"


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(new)
    app.command()(export)
    app.command()(verify)
    app.command()(serve)


@guarded
def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The campaign's new folder.")],
    images: Annotated[
        Path | None, typer.Option("--images", metavar="DIR", help="Folder of label images.")
    ] = None,
    compositions: Annotated[
        Path | None,
        typer.Option("--compositions", metavar="CSV", help="Columns PHASE:ELEMENT, fractions."),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option("--index", metavar="CSV", help="Columns name, split (train, val, test)."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="A,B", help="Phase of pixel value 0, 1, …"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N")] = 1,
    as_json: JsonOption = False,
) -> None:
    """A campaign from your own images and compositions, ready for its targets."""
    from loop.campaign import load_campaign
    from loop.scaffold import new_campaign
    from simulators import registry

    names = [name.strip() for name in labels.split(",")] if labels else None
    path = new_campaign(
        folder, images=images, compositions=compositions, index=index, labels=names, seed=seed
    )
    campaign = load_campaign(path)
    outputs: dict[str, str] = {}
    for name in campaign.simulators.use:
        settings = campaign.simulators.settings.get(name, {})
        outputs |= registry.create(name, space=campaign.space, settings=settings).outputs
    if as_json:
        print_json({"campaign": str(path), "name": campaign.name, "properties": outputs})
        return
    print(f"{from_here(path)} is ready. Put your targets into it; properties that are computed:")
    for name in outputs:
        print(f"  {name}")
    print(f"Then: {program()} run {shlex.quote(str(folder))}")


@guarded
def export(
    target: Annotated[
        Path, typer.Argument(metavar="DIR|FILE.zip", help="A new folder, or a new zip file.")
    ],
    filter_: Annotated[
        str, typer.Option("--filter", metavar="FILTER", help="Only what matches, as in query.")
    ] = "",
    format_: Annotated[TableFormat, typer.Option("--format", help="Of the tables.")] = (
        TableFormat.csv
    ),
    campaign: CampaignOption = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tables, images and settings of a campaign as plain files; nothing is ever overwritten."""
    from interface.export import export_campaign
    from interface.progress import shown

    with open_ledger(ledger, campaign) as opened, shown() as progress:
        number = opened.campaign_id(campaign)
        counts = export_campaign(
            opened, number, target, where=filter_ or None, format_=format_.value, progress=progress
        )
    if as_json:
        print_json({"export": str(target), **counts})
        return
    print(f"{counts['evaluations']} evaluations, {counts['images']} images -> {target}")


def _cases(room: Room) -> Iterable[tuple[str, Callable[[], list[Case]]]]:
    # Each room is loaded only when it is asked for.
    if room in (Room.composition, Room.all):
        from loop.composition_cases import cases as composition

        yield "composition", composition
    if room in (Room.simulators, Room.all):
        from simulators.verification import cases as simulators

        yield "simulators", simulators
    if room in (Room.generators, Room.all):
        from generators.verification import cases as generators

        yield "generators", generators


@guarded
def verify(
    room: Annotated[Room, typer.Argument(help="What to check.")] = Room.all,
    as_json: JsonOption = False,
) -> None:
    """Check the program on this machine against exact answers; exit code 1 on a miss."""
    from interface.progress import shown
    from loop.verification import all_passed

    found: list[Case] = []
    with shown() as progress:
        for name, cases in _cases(room):
            progress(f"verify {name}", 0, 1)
            found += cases()
            progress(f"verify {name}", 1, 1)
    passed = all_passed(found)
    if as_json:
        print_json({"passed": passed, "cases": [_described(case) for case in found]})
    else:
        columns = ("room", "case", "exact", "computed", "error", "allowed", "pass")
        print_table(columns, [_described(case) for case in found])
        missed = sum(not case.passed for case in found)
        print(f"{len(found)} cases, {missed} missed")
    if not passed:
        raise typer.Exit(EXIT_MISS)


def _described(case: Case) -> dict[str, Any]:
    return {
        "room": case.room,
        "case": case.name,
        "exact": case.exact,
        "computed": case.computed,
        "error": case.error,
        "allowed": case.allowed,
        "pass": case.passed,
        "source": case.source,
    }


@guarded
def serve(
    port: Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535)] = 8080,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Others than loopback are open to all.")
    ] = "127.0.0.1",
    show: Annotated[
        bool, typer.Option("--show", metavar=FLAG, help="Open the page in the browser.")
    ] = False,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """The page and the HTTP API of a ledger."""
    with open_ledger(ledger) as opened:  # what is wrong with it is said before anything starts
        url = opened.url
    from interface.dashboard import bind
    from interface.dashboard import serve as start

    # What cannot be had is refused before it is announced; port 0 becomes a free one.
    with bind(host, port) as listener:
        port = int(listener.getsockname()[1])
    if as_json:
        print_json({"page": f"http://{host}:{port}/", "api": f"http://{host}:{port}/docs"})
    else:
        note(f"page: http://{host}:{port}/   API: http://{host}:{port}/docs   Ctrl-C ends it")
    start(url, host, port, show)
