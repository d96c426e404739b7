"""``propose`` and ``distil``: designs from the trained generator at once, and its quick student."""

from __future__ import annotations

import shlex
from enum import StrEnum
from typing import Annotated

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
    named_wishes,
    properties_and_labels,
)
from interface.cli_common import (
    FLAG,
    JsonOption,
    LedgerOption,
    from_here,
    guarded,
    option_for,
    program,
)
from interface.output import print_json
from interface.sessions import trained_session
from loop.errors import InvalidInputError

MOST_STEPS = 16


class Leading(StrEnum):
    """What leads designs to what is asked."""

    classifier_free = "classifier-free"
    regressor = "regressor"
    surrogate = "surrogate"
    simulator = "simulator"


class Lesson(StrEnum):
    """How a student is taught."""

    direct = "direct"
    progressive = "progressive"
    consistency = "consistency"


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(propose)
    app.command()(distil)


@guarded
def propose(
    campaign: CampaignArgument,
    n: Number = 16,
    wishes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PROPERTY=X|LOW..HIGH|LABEL=VALUE",
            help="What a property or label shall be; repeatable. Otherwise the campaign's targets.",
        ),
    ] = None,
    guidance: Annotated[
        float,
        typer.Option(
            "--guidance", metavar="S", min=0.0, max=15.0, help="0 ignores what is asked, 1 to 3."
        ),
    ] = 2.0,
    guide: Annotated[
        Leading | None,
        typer.Option(
            "--guide",
            help="What leads to what is asked: the network's own conditions, a regressor of noised "
            "states, also the surrogate's or simulators' slopes. Otherwise as the campaign says.",
        ),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(
            "--also",
            metavar='"PROPERTY=X, ... @ WEIGHT"',
            help="A further condition with a weight of its own (1 if not said); repeatable.",
        ),
    ] = None,
    avoid: Annotated[
        list[str] | None,
        typer.Option(
            "--avoid",
            metavar='"PROPERTY=X, ... @ WEIGHT"',
            help="What designs are to be led away from, likewise.",
        ),
    ] = None,
    student: Annotated[
        bool, typer.Option("--student", metavar=FLAG, help="By the few-step student.")
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option("--steps", metavar="N", min=1, max=MOST_STEPS, help="Of which student."),
    ] = None,
    score: Score = False,
    familiarity: Annotated[
        bool,
        typer.Option(
            "--familiarity",
            metavar=FLAG,
            help="How many percent of held-out designs are less likely to the generator.",
        ),
    ] = False,
    output: Output = None,
    pictures: Pictures = None,
    seed: Seed = 0,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Designs at once, from the trained generator of the last round, for what you ask of it.

    What it proposes is a claim until a simulator has seen it (--score). Nothing is added to the
    ledger.
    """
    check_new_files(output, pictures)
    if steps is not None and not student:
        raise InvalidInputError("--steps says which student is to answer; add --student")
    asked = named_wishes(wishes or ())
    from flows.conditions import read_condition
    from flows.propose import propose as propose_designs

    with trained_session(campaign, ledger) as session:
        known = session.campaign.space.labels
        conditions = [
            read_condition(text, session.properties, known, avoid=texts is avoid)
            for texts in (also, avoid)
            for text in texts or ()
        ]
        found = propose_designs(
            session,
            n,
            **properties_and_labels(session, asked),
            also=conditions,
            guidance=guidance,
            guide=None if guide is None else guide.value,
            student=student,
            steps=steps,
            score=score,
            familiarity=familiarity,
            seed=seed,
        )
    answer(found, output, pictures, as_json)


@guarded
def distil(
    campaign: CampaignArgument,
    steps: Annotated[
        int,
        typer.Option("--steps", metavar="N", min=1, max=MOST_STEPS, help="Of the student, 1 to 4."),
    ] = 2,
    guidance: Annotated[
        str,
        typer.Option("--guidance", metavar="S|LOW..HIGH", help="Scales that it is to know."),
    ] = "2",
    method: Annotated[Lesson, typer.Option("--method", help="How it is taught.")] = Lesson.direct,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Teach a student that proposes as the trained generator does, in a few steps.

    It is kept beside the generator's checkpoint; ``propose --student`` finds it there. When it is
    stopped, the same command goes on where it was.
    """
    scales = _scales(guidance)
    from flows.propose import distil_last
    from interface.progress import shown

    with shown() as progress, trained_session(campaign, ledger, progress) as session:
        student, digest = distil_last(session, steps=steps, guidance=scales, method=method.value)
        place = session.checkpoints / f"{digest}.safetensors"
        option = option_for(session.ledger)
    about = {
        "student": digest,
        "teacher": student.teacher,
        "steps": student.lessons.steps,
        "sketch_steps": student.lessons.sketch_steps,
        "head_steps": student.lessons.head_steps,
        "guidance": list(student.lessons.guidance),
        "method": student.lessons.method,
        "metrics": student.metrics,
        "path": str(place),
    }
    if as_json:
        print_json(about)
        return
    print(
        f"a student of {steps} steps at guidance {guidance} -> {from_here(place)}\n"
        f"Then: {program()} propose {shlex.quote(str(campaign))}{option} --student"
    )


def _scales(text: str) -> tuple[float, float]:
    ends = text.split("..")
    try:
        low, high = float(ends[0]), float(ends[-1])
    except ValueError:
        low = high = 0.0
    if len(ends) > 2 or not 0 < low <= high <= 15:
        raise InvalidInputError(
            f"--guidance is {text!r}; expected a scale above 0, up to 15, or a range as 1..3"
        )
    return low, high
