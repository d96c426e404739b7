"""``spinodal ask`` and ``spinodal tell``: the work list of a laboratory, and its results."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interface.cli_common import (
    FLAG,
    JsonOption,
    LedgerOption,
    chosen_ledger,
    default_ledger,
    guarded,
    new_file,
    open_ledger,
    option_for,
    program,
)
from interface.output import note, print_json, print_table
from loop.errors import InvalidInputError
from loop.laboratory import counted

if TYPE_CHECKING:
    from interface.laboratory import Expectations
    from interface.models import ResultIn
    from loop.laboratory import Work
    from loop.ledger import Ledger

CampaignArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="CAMPAIGN|NAME", help="A campaign file, folder or name; otherwise the latest."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(ask)
    app.command()(tell)


def opened(campaign: str | None, ledger: str | None) -> tuple[Ledger, int, str]:
    """The ledger of a campaign, the campaign's number in it, and its name."""
    name = campaign
    if campaign is not None and Path(campaign).exists():
        from loop.campaign import load_campaign

        name = load_campaign(campaign).name
    place = chosen_ledger(ledger)
    if place is None and name is not None and default_ledger(name).is_file():
        place = str(default_ledger(name))
    found = open_ledger(place)
    try:
        number = found.campaign_id(name)
        frame = found.campaigns().set_index("id")
        return found, number, str(frame.loc[number, "name"])
    except BaseException:
        found.close()
        raise


@guarded
def ask(
    campaign: CampaignArgument = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE.csv", help="A new file, with pictures in images/."
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture", metavar="FILE.png", help="The designs, and what is expected of them."
        ),
    ] = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """The open work list: designs to be made and measured before the campaign goes on."""
    if picture is not None and new_file(picture).suffix.lower() != ".png":
        raise InvalidInputError(f"--picture is {picture}; expected a name that ends in .png")
    if output is not None:
        new_file(output)
        if output.suffix.lower() != ".csv":
            raise InvalidInputError(f"--output is {output}; expected a name that ends in .csv")
    found, number, name = opened(campaign, ledger)
    from interface.laboratory import expectations, work_list, write_work

    with found:
        work = found.work(number)
        expected = expectations(found, number, work)
        if picture is not None and work:
            _draw_work(found, number, name, work, expected, picture)
        if output is not None:
            pictures = write_work(work, output, expected)
            if as_json:
                print_json({"campaign": name, "designs": len(work), "file": str(output)})
                return
            more = f", {counted(pictures, 'picture')} to {output.parent / 'images'}"
            written = f"{counted(len(work), 'design')} written to {output}"
            print(written + (more if pictures else ""))
        elif as_json:
            print_json(work_list(found, number).model_dump())
            return
        else:
            _print_work(work, name, expected)
        option = option_for(found)
    if work:
        file = "FILE.csv" if output is None else shlex.quote(str(output))
        note(f"fill in what was measured, then: {program()} tell {name} {file}{option}")


def _draw_work(
    ledger: Ledger, number: int, name: str, work: list[Work], expected: Expectations, file: Path
) -> None:
    from interface.plots_work import work_figure
    from interface.views import campaign_targets

    settings = ledger.campaign_settings(number)
    targets = [t for t in campaign_targets(settings) if t.name in work[0].wanted]
    known: dict[str, list[float]] = {}
    for record in ledger.records(number):
        for key, value in record.outcome.values.items():
            known.setdefault(key, []).append(value)
    work_figure(work, expected, targets, known, file, title=f"Work list of {name}")
    note(f"picture: {file}")


def _print_work(work: list[Work], name: str, expected: Expectations) -> None:
    if not work:
        print(f"{name} asks for nothing")
        return
    from interface.labels import composition_text, format_uncertain, process_text
    from interface.laboratory import deviations_of

    lines, noises = [], list[float | None]()
    for w in work:
        phases = [f"{phase} {text}" for phase, text in composition_text(w.candidate)]
        made = [*phases, *(f"{label} = {text}" for label, text in process_text(w.candidate))]
        if w.candidate.microstructure is not None:
            h, width = w.candidate.microstructure.shape
            made.append(f"picture {width} × {h} px")
        units = ((n, w.wanted[n].unit) for n in w.open)
        values = expected.get(w.candidate.id, {})
        shown = [(n, values[n]) for n in w.open if n in values]
        noises += [e.noise for _, e in shown]
        texts = [(n, format_uncertain(e.mean, e.std)) for n, e in shown]
        lines.append(
            {
                "id": w.candidate.id[:8],
                "waits": ", ".join(f"{arm} {round_}" for arm, round_ in w.rounds),
                "design (at.%)": "; ".join(made),
                **(
                    {"expected": "; ".join(f"{n} {v}" if len(w.open) > 1 else v for n, v in texts)}
                    if expected
                    else {}
                ),
                "to measure": ", ".join(n if u == "1" else f"{n} [{u}]" for n, u in units),
            }
        )
    print_table(list(lines[0]), lines, title=f"Work list of {name}")
    if noises:
        print(f"expected: ± one standard deviation of {deviations_of(noises)}")


@guarded
def tell(
    campaign: CampaignArgument = None,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE.csv",
            help="The work list filled in, or columns id, property, value, unit, uncertainty.",
        ),
    ] = None,
    candidate_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="A design, instead of a file.")
    ] = None,
    value: Annotated[
        list[str] | None,
        typer.Option(
            "--value",
            metavar="PROPERTY=VALUE±UNCERTAINTY",
            help="What was measured of it, as hardness_GPa=1.52±0.03; may be given again.",
        ),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option("--replace", metavar=FLAG, help="Take the place of what was told before."),
    ] = False,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hand in measured values; all of a file are kept, or none."""
    if (file is None) == (candidate_id is None) or (candidate_id is None) != (not value):
        raise InvalidInputError(
            "expected either a file, as in `tell CAMPAIGN FILE.csv`, or --id ID with --value "
            "PROPERTY=VALUE±UNCERTAINTY"
        )
    results = [_result(candidate_id or "", text) for text in value or ()]
    found, number, name = opened(campaign, ledger)
    from interface.laboratory import tell_file, tell_values

    with found:
        if file is not None:
            told = tell_file(found, number, file, replace=replace)
        else:
            told = tell_values(found, number, results, replace=replace)
        option = option_for(found)
    if as_json:
        print_json(told.model_dump())
        return
    print(told.text)
    note(f"go on with: {program()} resume {name}{option}")


def _result(id_: str, text: str) -> tuple[str, ResultIn]:
    from interface.models import ResultIn
    from simulators.measured_work import read_value

    name, sign, number = (part.strip() for part in text.partition("="))
    where = f"--value {text}"
    if not name or not sign:
        raise InvalidInputError(f"{where}: expected PROPERTY=VALUE±UNCERTAINTY")
    value, uncertainty = read_value(number, where)
    given = {"id": id_.lower(), "property": name, "value": value, "uncertainty": uncertainty}
    return where, ResultIn.model_validate(given)
