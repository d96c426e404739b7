"""``interpolate``: the compositions between two alloys, or two candidates, and what they have."""

from __future__ import annotations

import re
from contextlib import ExitStack
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interface.cli_common import FLAG, JsonOption, LedgerOption, guarded, new_file, open_ledger
from interface.cli_read import Format
from interface.interpolation_options import (
    check_path,
    check_tie_line,
    read_labels,
    read_process,
)
from interface.interpolation_output import chosen_format, write
from interface.interpolation_session import (
    asked_session,
    fraction_images,
    scoring_simulators,
)
from interface.output import note
from loop.errors import InvalidInputError

if TYPE_CHECKING:
    from flows.monotone_designs import Redraw
    from flows.paths import Generated
    from interface.interpolation import Interpolation
    from loop.campaign import Campaign
    from loop.candidate import Candidate
    from loop.protocols import Simulator
    from loop.space import DesignSpace

MOST_STEPS = 100_000
MOST_DRAWN = 200
MOST_PREDICTED = 10_000
NEEDS = {"--score": "simulators", "--monotone": "simulators", "--predict": "a surrogate"}
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
    within: Annotated[
        bool,
        typer.Option(
            "--within",
            metavar=FLAG,
            help="On an aitchison path: points outside bounds and constraints go to the nearest "
            "within.",
        ),
    ] = False,
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
            help="Compositions are mended until it only rises or only falls, as simulated; with "
            "--predict as predicted.",
        ),
    ] = None,
    predict: Annotated[
        bool,
        typer.Option(
            "--predict",
            metavar=FLAG,
            help="What the campaign's surrogate expects of every point, with its 90 % interval.",
        ),
    ] = False,
    microstructures: Annotated[
        bool,
        typer.Option(
            "--microstructures",
            metavar=FLAG,
            help="The trained generator draws a micrograph to go with every point; on a tie-line "
            "one of each phase fraction.",
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
    """A path between two compositions as a table, every point simulated or predicted if asked.

    Between two candidates of a ledger every phase moves along its own path; process variables
    move along, labels have to be the same, the micrograph stays that of the first unless the
    generator draws others. Nothing is added to the ledger.
    """
    from interface.interpolation_scores import made_monotone, predicted, scored
    from loop.campaign import load_campaign

    check_path(path.value, zeros, within, limited=bool(constraint or campaign))
    if campaign is None:
        for option, given in (
            ("--score", score),
            ("--monotone", monotone),
            ("--predict", predict),
            ("--microstructures", microstructures),
            ("--path generator", path is Way.generator),
            ("--process", process),
            ("--label", label),
        ):
            if given:
                raise InvalidInputError(
                    f"{option} needs {NEEDS.get(option, 'its designs')}; name a campaign with "
                    "--campaign DIR"
                )
    line = path is Way.tie_line
    designs = score or predict or microstructures
    drawn = path is Way.generator or (microstructures and not line)
    if predict and steps > MOST_PREDICTED:
        raise InvalidInputError(f"--steps is {steps}; --predict takes at most {MOST_PREDICTED}")
    check_tie_line(path.value, last, monotone, database, temperature, phases)
    if output is not None:
        new_file(output)
    if picture is not None and new_file(picture).suffix.lower() != ".png":
        raise InvalidInputError(f"--picture is {picture}; expected a name that ends in .png")
    chosen = chosen_format(format_, output, as_json)
    loaded = None if campaign is None else load_campaign(campaign)
    space = None if loaded is None else loaded.space
    if microstructures and space is not None and space.image_shape is None:
        raise InvalidInputError(
            "designs of this campaign have no micrographs; leave --microstructures out"
        )
    pictured = microstructures if not line else designs and _pictured(space)
    if (drawn or pictured) and steps > MOST_DRAWN:
        raise InvalidInputError(f"--steps is {steps}; a generator makes at most {MOST_DRAWN}")
    given_sets = tuple(constraint or ())
    given_process, given_labels = read_process(process or ()), read_labels(label or ())
    with ExitStack() as held:
        session = generated = surrogate = None
        if campaign is not None and loaded is not None and (drawn or predict):
            session = asked_session(campaign, ledger, held, predict=predict)
        if session is not None and drawn:
            from flows.paths import Generated

            generated = Generated(session, guidance=guidance, seed=seed)
        if last is None:
            from interface.interpolation_tie_line import along_tie_line

            images = None
            if campaign is not None and loaded is not None and pictured:
                images = partial(
                    fraction_images,
                    *(campaign, loaded, ledger, held, session),
                    guidance=guidance,
                    seed=seed,
                )
            found = along_tie_line(
                first,
                steps,
                database=database,
                temperature_K=temperature,
                phases=[p.strip() for p in phases.split(",")] if phases else (),
                campaign=loaded,
                constraints=given_sets,
                normalise=normalise,
                process=given_process,
                labels=given_labels,
                images=images,
                designs=designs,
            )
            if pictured:
                note(f"micrographs: {found.candidates[0].origin.details['images']}")
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
                within=within,
                normalise=normalise,
                process=given_process,
                labels=given_labels,
                draw=microstructures,
            )
        if session is not None and predict:
            from flows.expected import Expected

            surrogate = Expected(session)
        simulators: list[Simulator] = []
        if loaded is not None and (score or (monotone and not predict)):
            simulators = scoring_simulators(loaded, ledger, held)
        if monotone is not None:
            found = made_monotone(
                found,
                monotone,
                simulators if surrogate is None else [surrogate],
                constraints=given_sets,
                space=space,
                redraw=_redraw(generated, path),
            )
        if simulators:
            found = scored(found, simulators)
        if surrogate is not None:
            found = predicted(found, surrogate)
    if picture is not None:
        from interface.plots_compositions import path_figure

        path_figure(found, picture)
    write(found, chosen, output, as_json)
    if picture is not None and not as_json:
        note(f"picture: {picture}")


def _pictured(space: DesignSpace | None) -> bool:
    return space is not None and space.image_shape is not None


def _redraw(generated: Generated | None, path: Way) -> Redraw | None:
    """What draws the micrograph of a design whose compositions were mended; None: they stay."""
    if generated is None:
        return None
    if path is Way.generator:
        return generated.carried
    return lambda _, mended: generated.with_microstructure(mended)


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
    within: bool,
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
            within=within,
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
        within=within,
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
