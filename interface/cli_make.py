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
from loop.errors import InvalidInputError, SpinodalError

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
    alloys: Annotated[
        Path | None,
        typer.Option(
            "--alloys",
            metavar="CSV",
            help="Measured alloys: formulas or a column per element; properties with units.",
        ),
    ] = None,
    maximise: Annotated[
        list[str] | None,
        typer.Option("--maximise", metavar="PROPERTY", help="Of the alloys; may be given again."),
    ] = None,
    minimise: Annotated[
        list[str] | None,
        typer.Option("--minimise", metavar="PROPERTY", help="Of the alloys; may be given again."),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target", metavar="PROPERTY=LOW..HIGH", help="Of the alloys; may be given again."
        ),
    ] = None,
    constraint: Annotated[
        list[str] | None,
        typer.Option(
            "--constraint",
            metavar="TEXT",
            help="On new alloys, as 'at most 5 elements', 'Ni + Co >= 0.3'; may be given again.",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="COLUMN=TEXT", help="Rows to use; may be given again."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            metavar="COLUMN",
            help="What is chosen besides the composition, as processing; may be given again.",
        ),
    ] = None,
    formula: Annotated[
        str | None, typer.Option("--formula", metavar="COLUMN", help="The one with the formulas.")
    ] = None,
    margin: Annotated[
        float,
        typer.Option(
            "--margin", metavar="X", min=0.0, max=10.0, help="How far bounds leave the table's."
        ),
    ] = 0.1,
    batch: Annotated[
        int, typer.Option("--batch", metavar="N", min=1, help="Alloys to make in a round.")
    ] = 10,
    normalise: Annotated[
        bool, typer.Option("--normalise", metavar=FLAG, help="Scale compositions to their sum.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """A campaign from your own images and compositions, or from alloys that were measured."""
    if alloys is not None:
        if images or compositions or index or labels:
            raise InvalidInputError(
                "--alloys makes a campaign of its own; leave --images, --compositions, --index "
                "and --labels out"
            )
        _new_from_alloys(
            folder,
            alloys,
            aims=(maximise or [], minimise or [], target or []),
            constraints=constraint or [],
            only=_only(only or []),
            labels=label or [],
            formula=formula,
            margin=margin,
            batch=batch,
            seed=seed,
            normalise=normalise,
            as_json=as_json,
        )
        return
    if maximise or minimise or target or constraint or only or label or formula or normalise:
        raise InvalidInputError(
            "--maximise, --minimise, --target, --constraint, --only, --label, --formula and "
            "--normalise go with --alloys CSV; other campaigns have their targets in campaign.toml"
        )
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
        try:
            outputs |= registry.create(name, space=campaign.space, settings=settings).outputs
        except SpinodalError as error:
            raise type(error)(
                f"{from_here(path)} is written, but cannot run before [simulators] in it has what "
                f"is missing: {error}"
            ) from None
    if as_json:
        print_json({"campaign": str(path), "name": campaign.name, "properties": outputs})
        return
    print(f"{from_here(path)} is ready. Put your targets into it; properties that are computed:")
    for name in outputs:
        print(f"  {name}")
    print(f"Then: {program()} run {shlex.quote(str(folder))}")


def _only(given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        column, equals, value = (part.strip() for part in text.partition("="))
        if not (column and equals and value) or column in found:
            raise InvalidInputError(f"--only {text!r}: expected COLUMN=TEXT, and each column once")
        found[column] = value
    return found


def _new_from_alloys(
    folder: Path,
    alloys: Path,
    *,
    aims: tuple[list[str], list[str], list[str]],
    constraints: list[str],
    only: dict[str, str],
    labels: list[str],
    formula: str | None,
    margin: float,
    batch: int,
    seed: int,
    normalise: bool,
    as_json: bool,
) -> None:
    """``aims``: what to maximise, to minimise, and targets, as given."""
    from interface.alloy_campaign import new_from_alloys, read_aims
    from interface.alloy_table import read_alloys

    wanted = read_aims(*aims)
    table = read_alloys(
        alloys,
        [aim.wanted for aim in wanted],
        formula=formula,
        only=only,
        labels=labels,
        normalise=normalise,
    )
    path = new_from_alloys(
        folder, table, wanted, constraints=constraints, margin=margin, batch=batch, seed=seed
    )
    n = len(table.compositions)
    if as_json:
        found = {"alloys": n, "elements": list(table.elements), "properties": dict(table.units)}
        print_json({"campaign": str(path), **found, "notes": list(table.notes)})
        return
    for line in table.notes:
        print(line)
    print(f"{n} alloys of {len(table.elements)} elements: {', '.join(table.elements)}")
    print(f"{from_here(path)} is ready: read it, change what new alloys must keep to.")
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
