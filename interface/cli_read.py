"""``status``, ``rounds``, ``query`` and ``show``: questions to the ledger."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
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
    new_file,
    open_ledger,
    place_beside,
    shown_place,
)
from interface.cli_run import print_rounds
from interface.output import json_text, print_frame, print_json, print_table, rows, whole_file
from loop.errors import InvalidInputError
from loop.laboratory import counted

if TYPE_CHECKING:
    import pandas as pd

    from loop.candidate import Candidate, Record
    from loop.ledger import Ledger
    from loop.targets import Targets

TABLE_ROWS = 20  # of a query that does not say how many
STATUS_COLUMNS = (
    "name",
    "seed",
    "started_at",
    "rounds",
    "planned",
    "evaluations",
    "hits",
    "distinct_hits",
    "finished",
    "waiting",
)


class Format(StrEnum):
    """What a query writes."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(status)
    app.command()(rounds)
    app.command()(query)
    app.command()(show)


@guarded
def status(ledger: LedgerOption = None, as_json: JsonOption = False) -> None:
    """The campaigns of a ledger: how far they are, and why they stopped."""
    with open_ledger(ledger) as opened:
        lines = rows(opened.campaigns())
        for line in lines:
            line["open_measurements"] = sum(opened.open_requests(line["id"]).values())
            if line["waiting"] and line["asked"] and not line["open_measurements"]:
                line["waiting"] = "all that was asked for has been told; resume it"
            elif line["waiting"] and line["open_measurements"]:
                line["waiting"] = f"waiting for {counted(line['open_measurements'], 'measurement')}"
        if as_json:
            print_json({"ledger": shown_place(opened), "campaigns": lines})
            return
        columns = [c for c in STATUS_COLUMNS if c != "waiting" or any(x[c] for x in lines)]
        print_table(columns, lines, title=f"Campaigns in {shown_place(opened)}")


@guarded
def rounds(
    campaign: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Campaign; otherwise the latest.")
    ] = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """The table of rounds, generative arm and control arms together."""
    with open_ledger(ledger, campaign) as opened:
        number = opened.campaign_id(campaign)
        frame = opened.rounds(number)
        name = _name(opened, number)
        if as_json:
            print_json({"campaign": name, "rounds": rows(frame)})
            return
        print_rounds(frame, title=f"Rounds of {name}")


@guarded
def query(
    filter_: Annotated[
        str,
        typer.Argument(
            metavar="FILTER",
            help='Such as "youngs_modulus_GPa > 190 and density_g_per_cm3 < 8.2"; "" for all.',
        ),
    ] = "",
    sort: Annotated[str | None, typer.Option("--sort", metavar="FIELD")] = None,
    descending: Annotated[
        bool, typer.Option("--desc", metavar=FLAG, help="Largest first.")
    ] = False,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N")] = None,
    columns: Annotated[
        str | None,
        typer.Option("--columns", metavar="A,B", help="Fields to show; `all` for every one."),
    ] = None,
    format_: Annotated[
        Format | None, typer.Option("--format", help="Otherwise table, or by --output's ending.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="A new file.")
    ] = None,
    campaign: CampaignOption = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Candidates that match a filter, with their properties."""
    chosen = _format(format_, output, as_json)
    if output is not None:
        new_file(output)
    elif chosen is Format.parquet and sys.stdout.isatty():
        raise InvalidInputError("parquet is not text; name a file with --output or use a pipe")
    shortened = chosen is Format.table and output is None and limit is None
    with open_ledger(ledger, campaign) as opened:
        number = opened.campaign_id(campaign)
        wanted = _columns(opened, number, columns, chosen, filter_, sort)
        frame = opened.evaluations(
            number,
            where=filter_ or None,
            sort=sort,
            descending=descending,
            limit=TABLE_ROWS if shortened else limit,
            columns=wanted,
        )
        if wanted is not None:
            frame = frame[[name for name in wanted if name in frame.columns]]
        found = opened.count(number, where=filter_ or None) if shortened else len(frame)
    if output is not None:
        write_frame(frame, output, chosen)
        if as_json:
            print_json({"rows": len(frame), "file": str(output)})
        else:
            print(f"{len(frame)} rows written to {output}")
        return
    if chosen is Format.json:
        print_json(rows(frame))
    elif chosen is Format.csv:
        frame.to_csv(sys.stdout, index=False)
    elif chosen is Format.parquet:
        frame.to_parquet(sys.stdout.buffer, index=False)
    else:
        print_frame(_shortened_ids(frame))
        more = f"; the first {len(frame)} are shown (--limit N for more)"
        print(f"{found} found" + (more if found > len(frame) else ""))


def _format(given: Format | None, output: Path | None, as_json: bool) -> Format:
    if given is not None:
        return given
    if output is not None:
        ending = output.suffix.lstrip(".").lower()
        if ending in (Format.csv, Format.json, Format.parquet):
            return Format(ending)
        raise InvalidInputError(
            f"--output is {output}; expected a name that ends in .csv, .json or .parquet, "
            "or --format"
        )
    return Format.json if as_json else Format.table


def write_frame(frame: pd.DataFrame, path: Path, format_: Format) -> None:
    """A frame as a file; the table format is plain text, one line a row."""
    with whole_file(path) as draft:
        if format_ is Format.csv:
            frame.to_csv(draft, index=False)
        elif format_ is Format.parquet:
            frame.to_parquet(draft, index=False)
        elif format_ is Format.json:
            draft.write_text(json_text(rows(frame)), encoding="utf-8")
        else:
            draft.write_text(frame.to_string(index=False) + "\n", encoding="utf-8")


def write_rows(
    document: Callable[[], Any], frame: pd.DataFrame, path: Path, format_: Format, *, as_json: bool
) -> None:
    """A frame as a file, or its ``document`` where that is JSON; says how many rows it has."""
    if format_ is Format.json:
        with whole_file(path) as draft:
            draft.write_text(json_text(document()), encoding="utf-8")
    else:
        write_frame(frame, path, format_)
    if as_json:
        print_json({"rows": len(frame), "file": str(path)})
    else:
        print(f"{len(frame)} rows written to {path}")


def _columns(
    ledger: Ledger,
    campaign: int,
    given: str | None,
    format_: Format,
    filter_: str,
    sort: str | None,
) -> list[str] | None:
    """Fields to show: those asked for, all for machines, the telling ones for people."""
    if given is not None:
        names = [name.strip() for name in given.split(",") if name.strip()]
        if not names:
            raise InvalidInputError(
                f"--columns is {given!r}; expected names of fields such as id,hit or all"
            )
        return None if names == ["all"] else names
    if format_ is not Format.table:
        return None
    known = ledger.fields(campaign)
    mentioned = {word for word in re.findall(r"[A-Za-z_][A-Za-z0-9_.]*", filter_) if word in known}
    targets = ledger.campaign_settings(campaign)["targets"]
    shown = ["id", "arm", "round", "hit", "distance", *targets, *sorted(mentioned)]
    shown += [sort.strip().strip("`")] if sort else []
    if ledger.count(campaign, where='fidelity in ("measured", "mixed")'):
        shown += [*(f"uncertainty_{name}" for name in targets), "fidelity"]
    return [name for name in dict.fromkeys(shown) if name in known]


def _shortened_ids(frame: pd.DataFrame) -> pd.DataFrame:
    if "id" in frame.columns:
        frame = frame.assign(id=frame["id"].str[:8])
    return frame


@guarded
def show(
    candidate_id: Annotated[
        str, typer.Argument(metavar="ID", help="A candidate's id, or enough of its beginning.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where the picture goes (PNG)."),
    ] = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """One candidate: its picture, composition, origin and every outcome on record."""
    if output is not None:
        new_file(output)
    with open_ledger(ledger) as opened:
        candidate = opened.candidate(candidate_id.strip().lower())
        record, name = _record_of(opened, candidate)
        targets = _targets(opened, name)
        frame = opened.candidate_records(candidate.id)
        picture = output or place_beside(opened, name) / "pictures" / f"{candidate.id[:8]}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    from interface.plots import candidate_figure

    candidate_figure(candidate, record, picture, targets=targets)
    if as_json:
        print_json({**_described(candidate), "records": rows(frame), "picture": from_here(picture)})
        return
    _print_candidate(candidate, record, targets, frame)
    _print_records(frame)
    print(f"Picture: {from_here(picture)}")


def _name(ledger: Ledger, number: int) -> str:
    frame = ledger.campaigns()
    return str(frame.loc[frame["id"] == number, "name"].iloc[0])


def _record_of(ledger: Ledger, candidate: Candidate) -> tuple[Record | None, str]:
    """The newest record of a candidate that is ok, otherwise the newest; and its campaign."""
    where = f'id = "{candidate.id}"'
    frame = ledger.evaluations(where=where, columns=["campaign", "arm", "round", "status"])
    name = str(frame["campaign"].iloc[-1])
    number = ledger.campaign_id(name)
    found = [
        record
        for record in ledger.records(number, rounds=sorted({int(r) for r in frame["round"]}))
        if record.candidate == candidate
    ]
    found.sort(key=lambda record: record.outcome.status == "ok")
    return (found[-1] if found else None), name


def _targets(ledger: Ledger, campaign: str) -> Targets:
    from loop.targets import Targets, parse_target

    settings = ledger.campaign_settings(ledger.campaign_id(campaign))
    return Targets(tuple(parse_target(k, v) for k, v in settings["targets"].items()))


def _described(candidate: Candidate) -> dict[str, Any]:
    x = candidate.phase_compositions
    image = candidate.microstructure
    return {
        "id": candidate.id,
        "phases": list(candidate.phases),
        "elements": list(candidate.elements),
        "microstructure": None if image is None else image,
        "phase_compositions": None
        if x is None
        else {
            phase: dict(zip(candidate.elements, map(float, row), strict=True))
            for phase, row in zip(candidate.phases, x, strict=True)
        },
        "process": dict(candidate.process),
        "labels": dict(candidate.labels),
        "origin": {
            "source": candidate.origin.source,
            "guidance": candidate.origin.guidance,
            "details": dict(candidate.origin.details),
        },
    }


def _print_candidate(
    candidate: Candidate, record: Record | None, targets: Targets, frame: pd.DataFrame
) -> None:
    from interface.blocks import half_blocks
    from interface.labels import (
        composition_text,
        format_number,
        process_text,
        property_label,
        target_met,
        target_text,
    )
    from loop.known_alloys import DIFFERENCE

    print(f"candidate {candidate.id}")
    if candidate.microstructure is not None:
        colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        print(half_blocks(candidate.microstructure, colour=colour))
    for phase, text in composition_text(candidate):
        print(f"{phase:>12}  {text}  at.%")
    for label, text in process_text(candidate):
        print(f"{label}: {text}")
    difference = candidate.origin.details.get(DIFFERENCE)
    if difference is not None:  # half of it, for what is less of one element is more of others
        share = f"{50 * difference:.3g} % of the atoms"
        print(f"difference from the nearest known alloy: {difference:.3g} ({share})")
    if record is None or record.outcome.status != "ok":
        return
    lines = []
    by_name = {target.name: target for target in targets}
    of_record = frame[(frame["arm"] == record.arm) & (frame["round"] == record.round)]
    given = zip(of_record["property"], of_record["value_fidelity"], strict=True)
    kinds = {name: kind for name, kind in given if isinstance(kind, str)}
    for name, value in record.outcome.values.items():
        target = by_name.get(name)
        met = None if target is None else target_met(target, value)
        lines.append(
            {
                "property": property_label(name),
                "value": _with_uncertainty(
                    format_number(value, target), record.outcome.uncertainty.get(name)
                ),
                "by": kinds.get(name, record.fidelity),
                "target": "" if target is None else target_text(target),
                "met": met,
            }
        )
    lines.sort(key=lambda line: line["target"] == "")
    print_table(("property", "value", "by", "target", "met"), lines)


def _with_uncertainty(value: str, deviation: float | None) -> str:
    return value if deviation is None else f"{value} ± {deviation:.2g}"


def _print_records(frame: pd.DataFrame) -> None:
    columns = ("campaign", "arm", "round", "position", "status", "hit", "distance", "source",
               "guidance", "simulator", "version", "fidelity", "reason")  # fmt: skip
    kept = frame[[name for name in columns if name in frame.columns]].drop_duplicates()
    print_frame(kept)
