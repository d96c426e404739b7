"""Designs from a campaign's trained generator for what is asked of it, and its few-step students.

Nothing is added to the ledger: a round decides what becomes a record, this answers a question.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from flows.proposal import TOGETHER, Proposal, Wish, draw_wishes
from generators.distil import distil
from generators.familiarity import Conditions
from generators.flow import JointFlow
from generators.student import JointStudent
from generators.student_files import load_student, register, registered
from generators.training.distillation import Method
from generators.training.resume import TrainingState
from loop.candidate import Candidate
from loop.errors import InvalidInputError
from loop.ledger_reader import Checkpoint
from loop.round import evaluate, stage_rng
from loop.session import Session
from loop.summary import LOOP_ARM

FloatArray = NDArray[np.float64]
MOST_DESIGNS = 4096  # in one answer
GUIDANCE = 2.0


@runtime_checkable
class Answering(Protocol):
    """A generator that can be asked for property values, each design for its own."""

    name: str
    near: FloatArray

    def generate(
        self, requests: FloatArray, *, guidance: float, rng: np.random.Generator
    ) -> list[Candidate]:
        """One candidate per row (n, k), NaN where nothing is asked."""
        ...


def trained(session: Session) -> tuple[Answering, Checkpoint]:
    """The generator of the last round that trained one, and its checkpoint.

    Raises LedgerError when there is none yet, InvalidInputError for one that takes no requests.
    """
    generator: Any = session.latest(LOOP_ARM)
    for index in range(session.next_round(), 0, -1):
        kept = session.ledger.checkpoint(session.campaign_id, LOOP_ARM, index, "generator")
        if kept is not None and isinstance(generator, Answering):
            return generator, kept
    raise InvalidInputError(
        f"the campaign's generator is {generator.name}, which cannot be asked for properties; "
        "use joint-flow"
    )


def student_of(
    session: Session, generator: Answering, kept: Checkpoint, guidance: float, steps: int | None
) -> JointStudent:
    """The newest student of a generator that knows the guidance scale and takes ``steps``.

    Raises InvalidInputError where there is none.
    """
    listed = registered(session.checkpoints, kept.sha256)
    fitting = [one for one in listed if one.serves(guidance, steps)]
    if not isinstance(generator, JointFlow) or not fitting:
        have = ", ".join(
            f"{one.settings.steps} steps at guidance "
            + TOGETHER.join(f"{s:g}" for s in sorted(set(one.settings.guidance)))
            for one in listed
        )
        wanted = f"{'any' if steps is None else steps} steps at guidance {guidance:g}"
        raise InvalidInputError(
            f"the generator of round {kept.round} has no student of {wanted} "
            f"({have or 'it has none'}); train one with spinodal distil CAMPAIGN"
        )
    path = session.checkpoints / f"{fitting[-1].sha256}.safetensors"
    return load_student(generator, path, teacher=kept.sha256)


def propose(
    session: Session,
    n: int,
    wishes: Sequence[Wish] = (),
    *,
    guidance: float = GUIDANCE,
    student: bool = False,
    steps: int | None = None,
    score: bool = False,
    seed: int = 0,
) -> Proposal:
    """n designs for the wishes, or the campaign's targets, from its trained generator.

    ``student``: by the few-step student of that generator, with ``steps`` where there are several.
    ``score``: have the simulators evaluate them. ``seed``: another one, other designs.
    Raises InvalidInputError for a number out of range and a student that is not there, LedgerError
    when nothing is trained yet.
    """
    if not 1 <= n <= MOST_DESIGNS:
        raise InvalidInputError(f"{n} designs were asked for; expected 1 to {MOST_DESIGNS}")
    if not 0 <= guidance < math.inf:
        raise InvalidInputError(f"guidance is {guidance:g}; expected a scale of 0 or more")
    generator, kept = trained(session)
    about: dict[str, Any] = {
        "generator": generator.name,
        "round": kept.round,
        "checkpoint": kept.sha256,
        "guidance": guidance,
    }
    asked: Answering = generator
    if student:
        quick = student_of(session, generator, kept, guidance, steps)
        asked = quick
        about |= {"generator": quick.name, "steps": quick.lessons.steps}
    rng = stage_rng(session.campaign.seed, "propose", seed, "designs")
    targets = session.campaign.targets
    requests = draw_wishes(n, wishes, targets, session.properties, generator.near, rng)
    designs = asked.generate(requests, guidance=guidance, rng=rng)
    return Proposal(
        properties=session.properties,
        wishes=tuple(wishes),
        designs=tuple(designs),
        requests=requests,
        outcomes=tuple(evaluate(session.simulators, designs)) if score else None,
        warnings=tuple(warnings_for(session, requests)),
        about=about,
    )


def known_values(session: Session) -> FloatArray:
    """(m, k) properties of the campaign's records that are ok, NaN where one is missing."""
    records = session.records(LOOP_ARM, session.next_round())
    rows = [r.outcome.values for r in records if r.outcome.status == "ok"]
    return np.array([[row.get(k, np.nan) for k in session.properties] for row in rows])


def warnings_for(session: Session, requests: FloatArray) -> list[str]:
    """What is to be said of requests (n, k) unlike all that was evaluated."""
    return Conditions(known_values(session), session.properties).warnings(requests)


def distil_last(
    session: Session,
    *,
    steps: int = 2,
    guidance: tuple[float, float] = (GUIDANCE, GUIDANCE),
    method: Method = "direct",
    seed: int = 0,
) -> tuple[JointStudent, str]:
    """A student of the last trained generator, kept and listed beside it; and its hash.

    A distillation that was killed goes on where it was. Raises as ``propose``, and
    InvalidInputError for a generator that is not a flow and settings out of range.
    """
    generator, kept = trained(session)
    if not isinstance(generator, JointFlow):
        raise InvalidInputError(
            f"the campaign's generator is {generator.name}; only joint-flow and diffusion can have "
            "students"
        )
    keep = TrainingState(session.checkpoints / "training" / f"student-{kept.sha256[:16]}")
    student = distil(
        generator,
        known_values(session),
        teacher=kept.sha256,
        steps=steps,
        guidance=guidance,
        method=method,
        rng=stage_rng(session.campaign.seed, "distil", seed, method),
        progress=session.progress,
        keep=keep,
    )
    digest, _ = student.save(session.checkpoints)
    register(session.checkpoints, student, digest)
    keep.clear()
    return student, digest
