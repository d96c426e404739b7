"""``interpolate``: the compositions between two alloys, or two candidates, and what they have."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interface.cli_common import FLAG, JsonOption, LedgerOption, guarded, new_file, open_ledger
from interface.cli_read import Format, write_frame
from interface.interpolation_options import check_tie_line, read_labels, read_process
from interface.output import json_text, note, print_frame, print_json, whole_file
from loop.errors import InvalidInputError

if TYPE_CHECKING:
    from flows.paths import Generated
    from interface.interpolation import Interpolation
    from loop.campaign import Campaign
    from loop.candidate import Candidate
    from loop.protocols import Simulator

MOST_STEPS = 100_000
MOST_DRAWN = 200
_ID = re.compile(r"[0-9a-f]{4,32}")


class Way(StrEnum):
    """Which way to go."""

    line = "line"
    aitchison = "aitchison"
    feasible = "feasible"
    generator = "generator"
    tie_line = "tie-line"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(interpolate)


@guarded
def interpolate(
    first: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help='A composition ("Al0.3CoCrFeNi", "Ti-6Al-4V wt%"), one of every phase '
            '("gamma: Ni-20Cr at%; gamma_prime: Ni3Al"), or a candidate\'s id.',
        ),
    ],
    last: Annotated[
        str | None,
        typer.Argument(metavar="[B]", help="The other end, of the same kind; none of a tie-line."),
    ] = None,
    path: Annotated[
        Way,
        typer.Option(
            "--path",
            help="Mixtures by the lever rule; equal steps in log ratios; within the bounds; by the "
            "trained generator; or between the phases that A splits into.",
        ),
    ] = Way.line,
    steps: Annotated[
        int, typer.Option("--steps", metavar="N", min=2, max=MOST_STEPS, help="Points, with ends.")
    ] = 11,
    constraint: Annotated[
        list[str] | None,
        typer.Option(
            "--constraint",
            metavar="TEXT",
            help='"Ni + Co >= 0.5", "Al <= 30 %", "Ni:Al = 3:1", "at most 5 elements"; repeatable.',
        ),
    ] = None,
    zeros: Annotated[
        float | None,
        typer.Option(
            "--zeros",
            metavar="X",
            help="On an aitchison path: fraction at which an element enters that one end lacks.",
        ),
    ] = None,
    normalise: Annotated[
        bool, typer.Option("--normalise", metavar=FLAG, help="Scale fractions to a sum of 1.")
    ] = False,
    campaign: Annotated[
        Path | None,
        typer.Option("--campaign", metavar="DIR", help="Its elements, bounds and simulators."),
    ] = None,
    score: Annotated[
        bool, typer.Option("--score", metavar=FLAG, help="Run the campaign's simulators.")
    ] = False,
    monotone: Annotated[
        str | None,
        typer.Option(
            "--monotone",
            metavar="PROPERTY",
            help="Compositions are mended until it only rises or only falls, as simulated.",
        ),
    ] = None,
    microstructures: Annotated[
        bool,
        typer.Option(
            "--microstructures",
            metavar=FLAG,
            help="The trained generator draws a micrograph to go with every point.",
        ),
    ] = False,
    process: Annotated[
        list[str] | None,
        typer.Option("--process", metavar="NAME=VALUE", help="Of ends in words; repeatable."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="NAME=VALUE", help="Of ends in words; repeatable."),
    ] = None,
    guidance: Annotated[
        float,
        typer.Option("--guidance", metavar="S", min=0.0, max=15.0, help="Of the generator."),
    ] = 1.0,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="Another one: other micrographs.")
    ] = 0,
    database: Annotated[
        Path | None,
        typer.Option("--database", metavar="FILE.tdb", help="Of a tie-line; needs pycalphad."),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", metavar="K", help="Of a tie-line.")
    ] = None,
    phases: Annotated[
        str | None,
        typer.Option("--phases", metavar="P,Q", help="Two of the database, for a tie-line."),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture", metavar="FILE.png", help="Compositions, properties and micrographs drawn."
        ),
    ] = None,
    format_: Annotated[
        Format | None, typer.Option("--format", help="Otherwise table, or by --output's ending.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="A new file.")
    ] = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """A path between two compositions as a table, every point re-scored by simulators if asked.

    Between two candidates of a ledger every phase moves along its own path; process variables
    move along, labels have to be the same, the micrograph stays that of the first unless the
    generator draws others. Nothing is added to the ledger.
    """
    from interface.interpolation import along_tie_line, made_monotone, scored
    from loop.campaign import load_campaign

    if campaign is None:
        for option, given in (
            ("--score", score),
            ("--monotone", monotone),
            ("--microstructures", microstructures),
            ("--path generator", path is Way.generator),
            ("--process", process),
            ("--label", label),
        ):
            if given:
                needs = "simulators" if option in ("--score", "--monotone") else "its designs"
                raise InvalidInputError(
                    f"{option} needs {needs}; name a campaign with --campaign DIR"
                )
    if zeros is not None and path is not Way.aitchison:
        raise InvalidInputError(f"--zeros is for --path aitchison; a {path} path may start at 0")
    drawn = microstructures or path is Way.generator
    if drawn and steps > MOST_DRAWN:
        raise InvalidInputError(f"--steps is {steps}; a generator makes at most {MOST_DRAWN}")
    check_tie_line(path.value, last, microstructures, monotone, database, temperature, phases)
    if output is not None:
        new_file(output)
    if picture is not None and new_file(picture).suffix.lower() != ".png":
        raise InvalidInputError(f"--picture is {picture}; expected a name that ends in .png")
    chosen = _format(format_, output, as_json)
    loaded = None if campaign is None else load_campaign(campaign)
    space = None if loaded is None else loaded.space
    if microstructures and space is not None and space.image_shape is None:
        raise InvalidInputError(
            "designs of this campaign have no micrographs; leave --microstructures out"
        )
    given_sets = tuple(constraint or ())
    with _generated(campaign if drawn else None, ledger, guidance, seed) as generated:
        if last is None:
            found = along_tie_line(
                first,
                steps,
                database=database,
                temperature_K=temperature,
                phases=[p.strip() for p in phases.split(",")] if phases else (),
                campaign=loaded,
                constraints=given_sets,
                normalise=normalise,
            )
        else:
            found = _between(
                (first, last),
                steps,
                path,
                loaded,
                generated,
                ledger,
                constraints=given_sets,
                delta=zeros,
                normalise=normalise,
                process=read_process(process or ()),
                labels=read_labels(label or ()),
                draw=microstructures,
            )
    if loaded is not None and (score or monotone):
        simulators = _simulators(loaded)
        if monotone is not None:
            found = made_monotone(found, monotone, simulators, constraints=given_sets, space=space)
        found = scored(found, simulators)
    if picture is not None:
        from interface.plots_compositions import path_figure

        path_figure(found, picture)
    _write(found, chosen, output, as_json)
    if picture is not None and not as_json:
        note(f"picture: {picture}")


@contextmanager
def _generated(
    campaign: Path | None, ledger: str | None, guidance: float, seed: int
) -> Iterator[Generated | None]:
    """What the trained generator of a campaign adds, None without a campaign."""
    if campaign is None:
        yield None
        return
    from flows.paths import Generated
    from interface.answers import trained_session

    with trained_session(campaign, ledger) as session:
        yield Generated(session, guidance=guidance, seed=seed)


def _simulators(campaign: Campaign) -> list[Simulator]:
    from flows.paths import simulators_of

    return simulators_of(campaign)


def _between(
    ends: tuple[str, str],
    steps: int,
    path: Way,
    campaign: Campaign | None,
    generated: Generated | None,
    ledger: str | None,
    *,
    constraints: tuple[str, ...],
    delta: float | None,
    normalise: bool,
    process: dict[str, float],
    labels: dict[str, str],
    draw: bool,
) -> Interpolation:
    from interface.interpolation import between_candidates, between_formulas

    space = None if campaign is None else campaign.space
    ids = [bool(_ID.fullmatch(end.strip())) for end in ends]
    if not any(ids):
        return between_formulas(
            *ends,
            steps,
            path.value,
            constraints=constraints,
            space=space,
            delta=delta,
            normalise=normalise,
            process=process,
            labels=labels,
            generated=generated,
        )
    if not all(ids):
        raise InvalidInputError(
            f"{ends[0]!r} and {ends[1]!r} are a candidate and a composition; give two of one kind"
        )
    for option, given in (("--process", process), ("--label", labels)):
        if given:
            raise InvalidInputError(f"{option} is for ends in words; candidates have their own")
    one, other = _candidates(*ends, campaign, ledger)
    found = between_candidates(
        one,
        other,
        steps,
        path.value,
        constraints=constraints,
        space=space,
        delta=delta,
        generated=generated,
        draw=draw and path is not Way.generator,
    )
    a, b = one.microstructure, other.microstructure
    if (
        generated is None
        and a is not None
        and (b is None or not (a.shape == b.shape and (a == b).all()))
    ):
        note("the micrographs differ: that of the first candidate is kept throughout")
    return found


def _candidates(
    first: str, last: str, campaign: Campaign | None, ledger: str | None
) -> tuple[Candidate, Candidate]:
    with open_ledger(ledger, campaign.name if campaign else None) as opened:
        return opened.candidate(first.strip()), opened.candidate(last.strip())


def _format(given: Format | None, output: Path | None, as_json: bool) -> Format:
    if given is Format.parquet and output is None and sys.stdout.isatty():
        raise InvalidInputError("parquet is not text; name a file with --output or use a pipe")
    if given is not None:
        return given
    if output is None:
        return Format.json if as_json else Format.table
    ending = output.suffix.lstrip(".").lower()
    if ending in (Format.csv, Format.json, Format.parquet):
        return Format(ending)
    raise InvalidInputError(
        f"--output is {output}; expected a name that ends in .csv, .json or .parquet, or --format"
    )


def _write(found: Interpolation, chosen: Format, output: Path | None, as_json: bool) -> None:
    if output is not None:
        if chosen is Format.json:
            with whole_file(output) as draft:
                draft.write_text(json_text(found.document()), encoding="utf-8")
        else:
            write_frame(found.frame(), output, chosen)
        if as_json:
            print_json({"rows": len(found.t), "file": str(output)})
        else:
            print(f"{len(found.t)} rows written to {output}")
    elif chosen is Format.json:
        print_json(found.document())
    elif chosen is Format.csv:
        found.frame().to_csv(sys.stdout, index=False)
    elif chosen is Format.parquet:
        found.frame().to_parquet(sys.stdout.buffer, index=False)
    else:
        print_frame(found.shown())
        if found.feasible is not None and not found.feasible.all():
            outside = int((~found.feasible).sum())
            which = next(v for v in found.violations if v)
            print(f"{outside} of {len(found.t)} points are outside: {'; '.join(which)}")
