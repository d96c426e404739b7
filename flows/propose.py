"""Designs from a campaign's trained generator for what is asked of it, and its few-step students.

Nothing is added to the ledger: a round decides what becomes a record, this answers a question.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from flows.conditions import Condition, with_conditions
from flows.fitted import fitted_surrogate
from flows.proposal import TOGETHER, Proposal, Wish, draw_wishes
from generators.asked import Asked
from generators.distil import distil
from generators.familiarity import Conditions, Familiarity
from generators.flow import JointFlow
from generators.student import JointStudent
from generators.student_files import load_student, register, registered
from generators.surrogate_guidance import SurrogateModel
from generators.training.distillation import Method
from generators.training.resume import TrainingState
from loop.candidate import Candidate
from loop.errors import InvalidInputError
from loop.feasible import within_constraints
from loop.ledger_reader import Checkpoint
from loop.protocols import Differentiable
from loop.round import evaluate, stage_rng
from loop.session import Session
from loop.summary import LOOP_ARM

FloatArray = NDArray[np.float64]
MOST_DESIGNS = 4096  # in one answer
GUIDANCE = 2.0
REFERENCES = 128  # held-out designs that others are compared with
STRANGE = 2.0  # percent
Guide = Literal["classifier-free", "regressor", "surrogate", "simulator"]


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


def guided(session: Session, generator: Answering, guide: Guide) -> JointFlow:
    """A copy of a trained generator that nothing but ``guide`` leads to what is asked of it.

    "classifier-free": the network's own conditions. "regressor": a regressor of noised states over
    the unconditional model. "surrogate", "simulator": the first, and then the design is moved by
    the derivatives of the surrogate, fitted to all that was evaluated, or of the simulators.
    Raises InvalidInputError for a generator that cannot be led so.
    """
    if not isinstance(generator, JointFlow):
        raise InvalidInputError(
            f"the campaign's generator is {generator.name}, which has no choice of guides; leave "
            "the guide out, or use joint-flow or diffusion"
        )
    new: JointFlow
    if isinstance(generator, JointStudent):
        if guide == "regressor":
            raise InvalidInputError(
                "a student takes steps that are too long for a regressor of noised states; ask "
                "its teacher (no --student)"
            )
        new = copy.copy(generator)
    else:
        new = generator.guided_by("regressor" if guide == "regressor" else "classifier-free")
    new.models = ()
    if guide == "simulator":
        new.models = tuple(s for s in session.simulators if isinstance(s, Differentiable))
        if not new.models:
            raise InvalidInputError(
                "none of the campaign's simulators has derivatives "
                f"({', '.join(s.name for s in session.simulators)}); choose another guide"
            )
    if guide == "surrogate":
        new.models = (SurrogateModel(fitted_surrogate(session)[0], session.features),)
    return new


def propose(
    session: Session,
    n: int,
    wishes: Sequence[Wish] = (),
    *,
    labels: Mapping[str, str] | None = None,
    also: Sequence[Condition] = (),
    guidance: float = GUIDANCE,
    guide: Guide | None = None,
    student: bool = False,
    steps: int | None = None,
    score: bool = False,
    familiarity: bool = False,
    seed: int = 0,
) -> Proposal:
    """n designs for the wishes, or the campaign's targets, from its trained generator.

    ``labels``: those that all designs are to have. ``also``: further conditions, each with a weight
    of its own, below 0 to lead away from it. ``guide``: what leads to the wishes, see
    ``guided``; None: what the campaign's settings say.
    ``student``: by the few-step student of that generator, with ``steps`` where there are several.
    ``score``: have the simulators evaluate them. ``familiarity``: how many percent of the library's
    held-out designs are less likely to the generator than each, with a warning of those below
    nearly all. ``seed``: another one, other designs.
    Raises InvalidInputError for a number out of range, a student that is not there and a guide
    that the generator does not have, LedgerError when nothing is trained yet.
    """
    if not 1 <= n <= MOST_DESIGNS:
        raise InvalidInputError(f"{n} designs were asked for; expected 1 to {MOST_DESIGNS}")
    if not 0 <= guidance < math.inf:
        raise InvalidInputError(f"guidance is {guidance:g}; expected a scale of 0 or more")
    if steps is not None and not student:
        raise InvalidInputError(
            f"steps = {steps} says which student is to answer; ask for the student as well"
        )
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
    if guide is not None:
        asked = guided(session, asked, guide)
        about["guide"] = guide
    further: list[FloatArray] = []
    if also:
        led = asked = with_conditions(asked, also)
        further = [one.request[: len(session.properties)] for one in led.also]
        about["also"] = [{"condition": one.name, "weight": one.weight} for one in also]
    rng = stage_rng(session.campaign.seed, "propose", seed, "designs")
    targets = session.campaign.targets
    requests = draw_wishes(n, wishes, targets, session.properties, generator.near, rng)
    designs = asked.generate(_labelled(asked, requests, labels), guidance=guidance, rng=rng)
    designs = within_constraints(session.campaign.space, designs)
    designs = session.with_difference(designs)
    said = warnings_for(session, np.vstack([requests, *further]), labels or {})
    shares = None
    if familiarity:
        shares, strange = familiar(generator, designs, seed)
        said += strange
    return Proposal(
        properties=session.properties,
        wishes=tuple(wishes),
        designs=tuple(designs),
        requests=requests,
        outcomes=tuple(evaluate(session.simulators, designs)) if score else None,
        warnings=tuple(said),
        about=about,
        familiarity=shares,
    )


def _labelled(
    generator: Answering, requests: FloatArray, labels: Mapping[str, str] | None
) -> FloatArray:
    """Requests (n, k) that ask for labels as well: (n, k + l)."""
    if not labels:
        return requests
    if not isinstance(generator, Asked):
        raise InvalidInputError(
            f"{generator.name} cannot be asked for labels ({', '.join(labels)}); leave them "
            "out, or use joint-flow"
        )
    return generator.with_labels(requests, labels)


def known_values(session: Session) -> FloatArray:
    """(m, k) properties of the campaign's records that are ok, NaN where one is missing."""
    records = session.records(LOOP_ARM, session.next_round())
    rows = [r.outcome.values for r in records if r.outcome.status == "ok"]
    return np.array([[row.get(k, np.nan) for k in session.properties] for row in rows])


def warnings_for(
    session: Session, requests: FloatArray, labels: Mapping[str, str] | None = None
) -> list[str]:
    """What is to be said of requests (n, k), and of labels, unlike all that was evaluated."""
    said = Conditions(known_values(session), session.properties).warnings(requests)
    records = session.records(LOOP_ARM, session.next_round()) if labels else []
    for name, value in (labels or {}).items():
        if not any(r.candidate.labels.get(name) == value for r in records):
            said.append(
                f"nothing that was evaluated has {name} = {value}; what is proposed is a guess"
            )
    return said


def familiar(
    generator: Answering, designs: Sequence[Candidate], seed: int
) -> tuple[FloatArray, list[str]]:
    """(n,) percent of held-out designs that are less likely than each, and what is to be said.

    Raises InvalidInputError for a generator without a likelihood.
    """
    if not isinstance(generator, JointFlow):
        raise InvalidInputError(
            f"the campaign's generator is {generator.name}, which has no exact likelihood; leave "
            "the familiarity out, or use joint-flow or diffusion"
        )
    rng = np.random.default_rng([seed, REFERENCES])
    usual = Familiarity.of(generator, generator.held_out(REFERENCES, rng), rng=rng)
    shares = usual.percentile(designs, rng=rng)
    strange = int((shares < STRANGE).sum())
    if not strange:
        return shares, []
    return shares, [
        f"{strange} of {len(designs)} designs are less likely to the generator than "
        f"{100 - STRANGE:g} % of {REFERENCES} held-out designs of the library: they are unlike "
        "what it learned"
    ]


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
