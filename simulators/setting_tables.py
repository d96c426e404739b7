"""A simulator's table in the campaign file: known keys, values in kind, errors in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from loop.errors import InvalidCampaignError, unknown_name

Table = TypeVar("Table", bound=BaseModel)


def parse_table(
    where: str, model: type[Table], settings: Mapping[str, Any], *, example: str = ""
) -> Table:
    """The settings as ``model``; ``where`` begins every message, as "atomistic: ".

    ``example``: what to say of a key that is missing. Raises InvalidCampaignError naming the key,
    with the nearest known one, or the value and what was expected.
    """
    for key in settings:
        if key not in model.model_fields:
            raise InvalidCampaignError(where + unknown_name("key", key, model.model_fields))
    try:
        return model.model_validate(dict(settings))
    except ValidationError as error:
        raise InvalidCampaignError(where + explain(error, example)) from None


def explain(error: ValidationError, example: str = "") -> str:
    """The first of pydantic's complaints as one line."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"{where} is missing; give it" + (f" ({example})" if example else "")
    message = first["msg"].removeprefix("Value error, ")
    return f"{where} is {first['input']!r}: {message[0].lower()}{message[1:]}"
