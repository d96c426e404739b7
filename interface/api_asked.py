"""What questions over HTTP that take the machine's time have in common: who may ask, and the body.

Like the laboratory's results they are answered only where the server listens on loopback alone, one
after the other.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from interface.cli_common import place_beside
from interface.cli_run import STARTED_FILE
from loop.errors import InvalidInputError

if TYPE_CHECKING:
    from loop.ledger import Ledger

Asked = TypeVar("Asked", bound=BaseModel)
one_at_a_time = threading.Lock()


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """For ``openapi_extra``: the body is a JSON document of this model.

    Models within it must be among the document's already, as those of answers are.
    """
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    content = {"schema": {k: v for k, v in schema.items() if k != "$defs"}}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


async def asked_of(request: Request, model: type[Asked], *, largest: int, elsewhere: str) -> Asked:
    """The question in a request's body, of at most ``largest`` bytes.

    Raises as ``body_read`` and ``parsed`` do.
    """
    _, body = await body_read(request, ("application/json",), largest=largest, elsewhere=elsewhere)
    return parsed(model, body)


async def body_read(
    request: Request, kinds: Sequence[str], *, largest: int, elsewhere: str, mend: str = ""
) -> tuple[str, bytes]:
    """The kind of a request's body, one of ``kinds``, and the body.

    Raises HTTPException 403, saying ``elsewhere``, where the server is open to a network, 413 for
    a body of more than ``largest`` bytes, with how to ``mend`` that, and 415 for another kind.
    """
    if not request.app.state.takes_results:
        raise HTTPException(403, elsewhere)
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind not in kinds:
        raise HTTPException(415, f"content-type is {kind!r}; expected {' or '.join(kinds)}")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > largest:
            raise HTTPException(413, f"more than {largest} bytes{mend}")
    return kind, body


def parsed(model: type[Asked], body: bytes) -> Asked:
    """A JSON document as a model; raises InvalidInputError for what does not fit, and where."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise InvalidInputError(f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}") from None


def campaign_path(ledger: Ledger, name: str) -> Path:
    """Where the campaign's file was when it was last run. Raises a 409 when it is not there."""
    note = place_beside(ledger, name) / STARTED_FILE
    try:
        path: Path | None = Path(json.loads(note.read_text(encoding="utf-8"))["campaign"])
    except (OSError, ValueError, KeyError, TypeError):
        path = None
    if path is None or not path.exists():
        raise HTTPException(
            409,
            f"it is not known where the campaign file of {name} lies; run the campaign here once "
            "more (spinodal resume PATH)",
        )
    return path
