"""Settings of a generator from a table of a campaign file: every key known, every value in kind."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from loop.errors import InvalidCampaignError, unknown_name

Settings = TypeVar("Settings")


def with_settings(where: str, base: Settings, given: Mapping[str, Any]) -> Settings:
    """The dataclass ``base`` with the values ``given``, tables within tables for nested ones.

    The kind of a value follows from the one it replaces: whole numbers are > 0, others >= 0;
    words are among the field's ``choices`` (its metadata); true or false may replace None, which
    leaves it to the program. Raises InvalidCampaignError that names ``where`` the key stands.
    """
    known = {field.name: field for field in fields(base)}  # type: ignore[arg-type]
    changed: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known:
            raise InvalidCampaignError(f"{where}: " + unknown_name("key", key, known))
        old = getattr(base, key)
        if is_dataclass(old):
            if not isinstance(value, Mapping):
                raise InvalidCampaignError(f"{where}.{key} is {value!r}; expected a table")
            changed[key] = with_settings(f"{where}.{key}", old, value)
            continue
        expected = _expected(old, value, known[key].metadata.get("choices", ()))
        if expected:
            raise InvalidCampaignError(f"{where}.{key} is {value!r}; expected {expected}")
        changed[key] = value
    return replace(base, **changed)  # type: ignore[type-var]


def _expected(old: Any, value: Any, choices: tuple[str, ...]) -> str:
    """What should have come instead of ``value``; empty when it is good."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if choices:
        good, expected = value in choices, " or ".join(choices)
    elif old is None or isinstance(old, bool):
        good, expected = isinstance(value, bool), "true or false"
    elif isinstance(old, int):
        good, expected = number and isinstance(value, int) and value > 0, "a whole number > 0"
    else:
        good, expected = number and 0 <= value < math.inf, "a number >= 0"
    return "" if good else expected
