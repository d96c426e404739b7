"""The laboratory's part of the HTTP API: its work list, and the results that it sends in.

Results are the only thing that the API keeps. A request that another web site makes in a visitor's
browser cannot be one: both content types are such that the browser asks this server first, which
allows no other site.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from interface.api_asked import body_read, parsed
from interface.laboratory import tell_csv, tell_values, work_csv, work_list
from interface.models import Problem, ResultIn, ResultsIn, ToldInfo, WorkList
from loop.errors import LedgerError
from loop.ledger import Ledger

LARGEST_BODY = 10_000_000  # bytes
ELSEWHERE = "results are taken only where the server answers on loopback alone (spinodal serve)"

router = APIRouter(prefix="/api/campaigns/{name}", tags=["laboratory"])


def _schema() -> dict[str, Any]:
    """Of the JSON that is taken, in one piece: a reference would point outside of it."""
    schema = ResultsIn.model_json_schema()
    schema["properties"]["results"]["items"] = schema.pop("$defs")[ResultIn.__name__]
    return schema


_TAKES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _schema()},
            "text/csv": {"schema": {"type": "string"}},
        },
    }
}


def found_campaign(ledger: Ledger, name: str) -> int:
    """Number of a campaign; one that the ledger does not know is a 404."""
    try:
        return ledger.campaign_id(name)
    except LedgerError as error:
        raise HTTPException(404, str(error)) from None


@router.get(
    "/work",
    response_model=WorkList,
    summary="Open work list",
    responses={200: {"content": {"text/csv": {}}, "description": "JSON, or CSV on request"}},
)
def work(
    name: str,
    request: Request,
    format: Annotated[Literal["json", "csv"], Query()] = "json",  # noqa: A002 - part of the URL
) -> Any:
    """Designs that are to be made and measured before the campaign can go on.

    The CSV has blanks for the results and may be sent back with them filled in.
    """
    ledger: Ledger = request.app.state.ledger
    number = found_campaign(ledger, name)
    if format == "csv":
        return Response(
            work_csv(ledger, number),
            media_type="text/csv; charset=utf-8",
            headers={"content-disposition": f'attachment; filename="{name}-work.csv"'},
        )
    return work_list(ledger, number)


@router.post(
    "/results",
    response_model=ToldInfo,
    summary="Send in results",
    openapi_extra=_TAKES,
    responses={
        403: {"model": Problem, "description": "The server is open to a network"},
        413: {"model": Problem, "description": "Too much at once"},
        415: {"model": Problem, "description": "Neither JSON nor CSV"},
    },
)
async def results(
    name: str,
    request: Request,
    replace: Annotated[
        bool, Query(description="Take the place of earlier results (CSV; JSON has its own)")
    ] = False,
) -> ToldInfo:
    """Measured values as JSON, or as CSV: the work list filled in, or id, property, value, unit.

    All of them are kept, or none; a result that was told before alike is passed over.
    """
    kind, body = await body_read(
        request,
        ("application/json", "text/csv"),
        largest=LARGEST_BODY,
        elsewhere=ELSEWHERE,
        mend="; send them in parts",
    )
    ledger: Ledger = request.app.state.ledger
    return await run_in_threadpool(_reader(ledger, name, kind, body, replace))


def _reader(
    ledger: Ledger, name: str, kind: str, body: bytes, replace: bool
) -> Callable[[], ToldInfo]:
    def read() -> ToldInfo:
        number = found_campaign(ledger, name)
        if kind == "text/csv":
            return tell_csv(ledger, number, body, "CSV", replace=replace)
        given = parsed(ResultsIn, body)
        named = [(f"results.{i}", result) for i, result in enumerate(given.results)]
        return tell_values(ledger, number, named, replace=given.replace or replace)

    return read
