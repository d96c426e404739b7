"""The HTTP API: campaigns, rounds, candidates and their pictures, read from one ledger.

It changes nothing but that a laboratory may send in results; asked for designs, it only answers.
Numbers are in the unit that the property's name carries. The description of every field is in the
OpenAPI document; its page works without a network.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from interface import api_laboratory, api_predict, api_propose
from interface.models import (
    CampaignInfo,
    CandidateDetail,
    CandidatePage,
    Health,
    Problem,
    RoundInfo,
)
from interface.pictures import LARGEST_SCALE, microstructure_png
from interface.views import campaign_infos, round_infos
from interface.views_candidates import candidate_detail, candidate_page
from loop.errors import InvalidInputError, LedgerError, SpinodalError
from loop.ledger import Ledger

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MOST_ROWS = 10_000
YEAR = 31_536_000  # s; a candidate's id is a hash of its content, so its picture never changes

# Everything the page needs comes from this server; the browser is told to fetch nothing else.
_SECURITY_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
        b"style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
        b"connect-src 'self'; worker-src 'self' blob:; frame-ancestors 'none'; base-uri 'self'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)

_log = logging.getLogger("spinodal.api")


class SecurityHeaders:
    """ASGI middleware that adds the headers above to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_SECURITY_HEADERS]
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


def _ledger(request: Request) -> Ledger:
    ledger: Ledger = request.app.state.ledger
    return ledger


LedgerDependency = Annotated[Ledger, Depends(_ledger)]
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "Something in the request that can be mended"},
    404: {"model": Problem, "description": "Not in the ledger"},
}
router = APIRouter(prefix="/api", responses=_PROBLEMS, tags=["ledger"])


def _found(what: Callable[[], Any]) -> Any:
    """Run a look-up by name or id: what the ledger does not know is a 404."""
    try:
        return what()
    except LedgerError as error:
        raise HTTPException(404, str(error)) from None


@router.get("/health", response_model=Health, summary="Server and ledger")
def health(ledger: LedgerDependency) -> Health:
    """Whether the server is up and its ledger can be read."""
    try:
        installed = version("spinodal")
    except PackageNotFoundError:
        installed = "not installed"
    return Health(version=installed, campaigns=len(ledger.campaigns()))


@router.get("/campaigns", response_model=list[CampaignInfo], summary="Campaigns")
def campaigns(ledger: LedgerDependency) -> list[CampaignInfo]:
    """All campaigns of the ledger, the most recently started first."""
    return campaign_infos(ledger)


@router.get(
    "/campaigns/{name}/rounds", response_model=list[RoundInfo], summary="Rounds of a campaign"
)
def rounds(name: str, ledger: LedgerDependency) -> list[RoundInfo]:
    """Every arm and round of a campaign: counts, hit rate, best distance so far."""
    return round_infos(ledger, _found(lambda: ledger.campaign_id(name)))


@router.get(
    "/candidates",
    response_model=CandidatePage,
    summary="Candidates, filtered and sorted",
    responses={200: {"content": {"text/csv": {}}, "description": "JSON, or CSV on request"}},
)
def candidates(
    ledger: LedgerDependency,
    campaign: Annotated[str | None, Query(description="Name; the newest by default")] = None,
    where: Annotated[
        str,
        Query(
            alias="filter",
            description="Comparisons of fields, joined by and, or, not; "
            "text in quotes. The fields are the columns of the CSV",
            examples=["hit and youngs_modulus_GPa > 190 and gamma_prime.Al between 0.1 and 0.16"],
        ),
    ] = "",
    sort: Annotated[str | None, Query(description="A field; evaluation order by default")] = None,
    desc: Annotated[bool, Query(description="Largest first")] = False,
    limit: Annotated[int, Query(ge=1, le=MOST_ROWS, description="Rows to return")] = 100,
    offset: Annotated[int, Query(ge=0, lt=2**63, description="Rows to skip")] = 0,
    format: Annotated[Literal["json", "csv"], Query()] = "json",  # noqa: A002 - part of the URL
) -> Any:
    """One row per evaluated or planned design, filtered and sorted in the database.

    A design that two arms or rounds came upon has a row for each.
    """
    number = _found(lambda: ledger.campaign_id(campaign))
    sort = sort or None
    if format == "csv":
        frame = ledger.evaluations(
            number, where=where, sort=sort, descending=desc, limit=limit, offset=offset
        )
        return Response(
            frame.to_csv(index=False),
            media_type="text/csv; charset=utf-8",
            headers={"content-disposition": 'attachment; filename="candidates.csv"'},
        )
    return candidate_page(
        ledger, campaign, where=where, sort=sort, descending=desc, limit=limit, offset=offset
    )


@router.get("/candidates/{id}", response_model=CandidateDetail, summary="One candidate")
def candidate(id: str, ledger: LedgerDependency) -> CandidateDetail:  # noqa: A002
    """One design: compositions, origin, and each evaluation with bounds, targets, predictions.

    ``id`` may be shortened as long as it begins only one id.
    """
    detail: CandidateDetail = _found(lambda: candidate_detail(ledger, id))
    return detail


@router.get(
    "/candidates/{id}/image.png",
    summary="Picture of a microstructure",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}, "description": "Palette PNG"}},
)
def image(
    id: str,  # noqa: A002
    ledger: LedgerDependency,
    scale: Annotated[
        int, Query(ge=1, le=LARGEST_SCALE, description="Side of a drawn pixel; 1 is lossless")
    ] = 4,
) -> Response:
    """The microstructure: pixel value = phase label, coloured by a palette."""
    design = _found(lambda: ledger.candidate(id))
    if design.microstructure is None:
        raise HTTPException(404, f"candidate {design.id} has no microstructure, so no picture")
    cached = f"public, max-age={YEAR}, immutable" if id == design.id else "no-cache"
    return Response(
        microstructure_png(design, scale),
        media_type="image/png",
        headers={"cache-control": cached},
    )


@router.get("/docs", include_in_schema=False)
def docs() -> RedirectResponse:
    """The OpenAPI page is at /docs."""
    return RedirectResponse("/docs")


# Of the last resort, so in a router that is included last.
rest_router = APIRouter(prefix="/api")


@rest_router.api_route("/{rest:path}", include_in_schema=False, methods=["GET", "HEAD"])
def nothing(rest: str) -> None:
    """A path that the API does not have."""
    raise HTTPException(404, f"no /api/{rest[:80]}; the API is described at /docs")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _problem(status: int, text: str) -> JSONResponse:
    return JSONResponse({"error": _one_line(text)}, status_code=status)


async def _on_user_error(_request: Request, error: Exception) -> Response:
    if isinstance(error, LedgerError):  # the ledger itself, not what was asked of it
        _log.error("%s", error)
        return _problem(503, str(error))
    return _problem(400, str(error))


async def _on_invalid_request(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    got = str(first.get("input", ""))[:60]
    return _problem(400, f"{where} is {got!r}: {first['msg'][:1].lower()}{first['msg'][1:]}")


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    del request
    answer = _problem(error.status_code, str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


async def _on_bug(_request: Request, error: Exception) -> Response:
    _log.error("unexpected error", exc_info=error)
    return _problem(500, "internal error; the server's log says what happened")


_HANDLERS: Sequence[tuple[type[Exception], Callable[[Request, Exception], Awaitable[Response]]]] = (
    (SpinodalError, _on_user_error),
    (RequestValidationError, _on_invalid_request),
    (HTTPException, _on_http_error),
    (Exception, _on_bug),
)


def create_api(
    ledger: Ledger, *, hosts: Sequence[str] = LOOPBACK, takes_results: bool = True
) -> FastAPI:
    """The API over an open ledger, as an ASGI application.

    ``takes_results``: whether results may be sent in; there is no log-in, so only where nobody
    but the user can reach the server.
    ``hosts``: names that a request's Host header may carry; others are refused, so that no web
    site can reach the server through a name of its own (DNS rebinding).
    """
    if not hosts:
        raise InvalidInputError("no host names are allowed; give at least one")
    app = FastAPIOffline(
        docs_url="/docs",
        redoc_url=None,
        title="spinodal",
        description=__doc__,
        openapi_url="/api/openapi.json",
        static_url="/docs-assets",
        swagger_ui_parameters={"validatorUrl": None, "tryItOutEnabled": True},
    )
    app.state.ledger = ledger
    app.state.takes_results = takes_results
    for kind, handler in _HANDLERS:
        app.add_exception_handler(kind, handler)
    app.include_router(router)
    app.include_router(api_laboratory.router, responses=_PROBLEMS)
    app.include_router(api_predict.router, responses=_PROBLEMS)
    app.include_router(api_propose.router, responses=_PROBLEMS)
    app.include_router(rest_router)
    written = [f"[{host}]" if ":" in host else host for host in hosts]  # IPv6 as in a URL
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=written, www_redirect=False)
    app.add_middleware(SecurityHeaders)
    return app
