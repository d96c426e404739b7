"""Asking a campaign's trained generator for designs over HTTP: the same as ``spinodal propose``.

It takes the machine's time, so like the laboratory's results it is there only where the server
answers on loopback alone. Requests of one server are answered one after the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from interface.api_asked import asked_of, body_of, campaign_path, one_at_a_time
from interface.api_laboratory import found_campaign
from interface.models import Problem
from interface.output import rows

if TYPE_CHECKING:
    from loop.ledger import Ledger

MOST_DESIGNS = 256  # in one answer
LARGEST_BODY = 100_000  # bytes
ELSEWHERE = "designs are proposed only where the server answers on loopback alone (spinodal serve)"

PATH = "/api/campaigns/{name}/propose"
router = APIRouter(tags=["generator"])


class ConditionIn(BaseModel):
    """Properties and labels asked for together, beside the wishes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    values: dict[str, float] = Field(default_factory=dict, description="Property -> value")
    labels: dict[str, str] = Field(default_factory=dict, description="Label -> value")
    weight: float = Field(
        default=1.0, ge=-15, le=15, description="Of this condition; below 0 leads away from it"
    )


class ProposeIn(BaseModel):
    """What is asked of the generator."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    n: int = Field(default=16, ge=1, le=MOST_DESIGNS, description="Designs")
    wishes: dict[str, float | Annotated[list[float], Field(min_length=2, max_length=2)]] = Field(
        default_factory=dict,
        description="Property -> value, or [low, high]; without any: the campaign's targets",
        examples=[{"youngs_modulus_GPa": 190, "density_g_per_cm3": [8.05, 8.2]}],
    )
    labels: dict[str, str] = Field(
        default_factory=dict, description="Label -> value that all designs are to have"
    )
    also: list[ConditionIn] = Field(
        default_factory=list, max_length=8, description="Further conditions, each with its weight"
    )
    guidance: float = Field(default=2.0, ge=0, le=15, description="0 ignores what is asked")
    guide: Literal["classifier-free", "regressor", "surrogate", "simulator"] | None = Field(
        default=None, description="What leads designs to the request, if not what the campaign says"
    )
    student: bool = Field(default=False, description="By the few-step student")
    score: bool = Field(default=False, description="Have the simulators evaluate the designs")
    steps: int | None = Field(
        default=None, ge=1, le=16, description="Of which student; without one: the newest"
    )
    familiarity: bool = Field(
        default=False,
        description="How many percent of held-out designs are less likely to the generator",
    )
    seed: int = Field(default=0, ge=0, description="Another one: other designs")


class ProposedInfo(BaseModel):
    """Designs that answer a request; what was not scored is the generator's claim."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="null")

    campaign: str
    generator: str = Field(description="joint-flow, or joint-student for its student")
    round: int = Field(description="That trained the generator")
    checkpoint: str = Field(description="SHA-256 of its weights")
    guidance: float
    also: list[ConditionIn] = Field(description="Further conditions, as they were asked")
    warnings: list[str] = Field(description="Requests unlike all that was evaluated, and why")
    designs: list[dict[str, Any]] = Field(
        description="id, familiarity_% if asked, requested_P and P per property, PHASE:ELEMENT "
        "fractions, process, labels, microstructure as rows of phase labels"
    )


@router.post(
    PATH,
    response_model=ProposedInfo,
    summary="Propose designs",
    # The answer has further conditions too, so their schema is among the document's.
    openapi_extra=body_of(ProposeIn),
    responses={
        403: {"model": Problem, "description": "The server is open to a network"},
        409: {"model": Problem, "description": "The campaign's file is not where it was"},
        413: {"model": Problem, "description": "Too much at once"},
        415: {"model": Problem, "description": "Not JSON"},
    },
)
async def propose(name: str, request: Request) -> ProposedInfo:
    """Designs from the trained generator of the last round. Nothing is added to the ledger."""
    asked = await asked_of(request, ProposeIn, largest=LARGEST_BODY, elsewhere=ELSEWHERE)
    ledger: Ledger = request.app.state.ledger
    return await run_in_threadpool(_answer, ledger, name, asked)


def _answer(ledger: Ledger, name: str, asked: ProposeIn) -> ProposedInfo:
    from flows.conditions import Condition
    from flows.proposal import wish
    from flows.propose import propose as propose_designs
    from interface.sessions import NO_GENERATOR, recorded_session

    found_campaign(ledger, name)
    path = campaign_path(ledger, name)
    with (
        one_at_a_time,
        recorded_session(path, ledger.path or ledger.url, lacks=NO_GENERATOR) as session,
    ):
        wishes = []
        for key, given in asked.wishes.items():
            low, high = given if isinstance(given, list) else (given, given)
            wishes.append(wish(key, low, high, session.properties))
        found = propose_designs(
            session,
            asked.n,
            wishes,
            labels=asked.labels,
            also=[Condition(one.values, one.labels, one.weight) for one in asked.also],
            guidance=asked.guidance,
            guide=asked.guide,
            student=asked.student,
            steps=asked.steps,
            score=asked.score,
            familiarity=asked.familiarity,
            seed=asked.seed,
        )
    images = (design.microstructure for design in found.designs)
    designs = [
        row | {"microstructure": None if image is None else image.tolist()}
        for row, image in zip(rows(found.table()), images, strict=True)
    ]
    about = {k: found.about[k] for k in ("generator", "round", "checkpoint", "guidance")}
    return ProposedInfo(
        campaign=name,
        also=asked.also,
        warnings=list(found.warnings),
        designs=designs,
        **about,
    )
