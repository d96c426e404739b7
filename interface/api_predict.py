"""Asking a campaign's surrogate about designs over HTTP: the same as ``spinodal predict``.

It takes the machine's time, so like proposals it is there only where the server answers on
loopback alone, and requests of one server are answered one after the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from interface.api_asked import asked_of, body_of, campaign_path, one_at_a_time
from interface.api_laboratory import found_campaign
from interface.models import Problem
from loop.errors import LedgerError

if TYPE_CHECKING:
    from loop.ledger import Ledger

MOST_DESIGNS = 1000  # in one answer
LARGEST_BODY = 1_000_000  # bytes
ELSEWHERE = "designs are predicted only where the server answers on loopback alone (spinodal serve)"

PATH = "/api/campaigns/{name}/predict"
router = APIRouter(tags=["surrogate"])


class PredictIn(BaseModel):
    """Which designs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    designs: list[str] = Field(
        min_length=1,
        max_length=MOST_DESIGNS,
        description="Compositions in words, of every phase where there are several, or ids",
        examples=[["Al0.3CoCrFeNi", "Ti-6Al-4V wt%", "gamma: Ni-20Cr at%; gamma_prime: Ni3Al"]],
    )
    process: dict[str, float] = Field(
        default_factory=dict, description="Process variable -> value, of designs in words"
    )
    labels: dict[str, str] = Field(
        default_factory=dict, description="Label -> value, of designs in words"
    )
    normalise: bool = Field(default=False, description="Scale fractions to a sum of 1")
    microstructures: bool = Field(
        default=False, description="The trained generator draws what compositions lack"
    )
    score: bool = Field(default=False, description="Have the simulators evaluate them as well")


class IntervalInfo(BaseModel):
    """What the ends of predicted values are."""

    level: float = Field(description="Probability that a new value lies between them")
    kind: str = Field(description="gaussian: of the surrogate's own distribution")
    of: str = Field(description="A value found as those on record are, with its scatter")


class ExpectedInfo(BaseModel):
    """What the surrogate expects; nothing of it is simulated or measured but where asked."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="null")

    campaign: str
    records: int = Field(description="Scored designs that the surrogate learned from")
    interval: IntervalInfo
    fidelity: dict[str, str] = Field(description="Property -> simulated or measured, where scored")
    designs: list[dict[str, Any]] = Field(
        description="In the order asked: id, formula; predicted_P, predicted_std_P, "
        "predicted_low_P, predicted_high_P per property (mean and deviation of the property "
        "itself, ends of the interval); chance_P per target and chance of all; "
        "nearest, nearest_id and difference (sum of absolute atomic fractions, 0 to 2); status and "
        "P where scored; remarks; PHASE:ELEMENT fractions, process, labels"
    )


@router.post(
    PATH,
    response_model=ExpectedInfo,
    summary="What is expected of designs",
    openapi_extra=body_of(PredictIn),
    responses={
        403: {"model": Problem, "description": "The server is open to a network"},
        409: {
            "model": Problem,
            "description": "Nothing scored yet, or the campaign's file is gone",
        },
        413: {"model": Problem, "description": "Too much at once"},
        415: {"model": Problem, "description": "Not JSON"},
    },
)
async def predict(name: str, request: Request) -> ExpectedInfo:
    """Expected values and chances of designs of one's own. Nothing is added to the ledger."""
    asked = await asked_of(request, PredictIn, largest=LARGEST_BODY, elsewhere=ELSEWHERE)
    ledger: Ledger = request.app.state.ledger
    return await run_in_threadpool(_answer, ledger, name, asked)


def _answer(ledger: Ledger, name: str, asked: PredictIn) -> ExpectedInfo:
    from flows.predict import predict as expected_of
    from interface.predicted import document
    from interface.predicting import read_designs
    from interface.sessions import recorded_session

    found_campaign(ledger, name)
    path = campaign_path(ledger, name)
    with (
        one_at_a_time,
        recorded_session(path, ledger.path or ledger.url) as session,
    ):
        try:
            designs = read_designs(
                session,
                asked.designs,
                process=asked.process,
                labels=asked.labels,
                normalise=asked.normalise,
                draw=asked.microstructures,
            )
        except LedgerError as error:
            raise HTTPException(404, str(error)) from None
        try:
            found = expected_of(session, designs, score=asked.score)
        except LedgerError as error:
            raise HTTPException(409, str(error)) from None
    return ExpectedInfo.model_validate(document(found))
