"""One open Session per process and campaign: between tasks only this key travels, never arrays."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flows.assembly import open_session
from loop.session import Session

LEDGER_VARIABLE = "SPINODAL_LEDGER"


@dataclass(frozen=True, slots=True)
class Key:
    """What a session is opened from; small, hashable, JSON-able.

    ``campaign``: path of the campaign file or folder. ``ledger``: path or URL; None for the
    one named in the environment, otherwise the default place.
    ``overrides``: JSON of section -> keys that replace those of the file.
    """

    campaign: str
    ledger: str | None = None
    overrides: str = "{}"

    @staticmethod
    def of(
        campaign: str, ledger: str | None = None, overrides: Mapping[str, Any] | None = None
    ) -> Key:
        return Key(campaign, ledger, json.dumps(overrides or {}, sort_keys=True))


_open: dict[Key, Session] = {}


def hold(key: Key, session: Session) -> None:
    """Let the tasks of this process work on a session that is open already."""
    _open[key] = session


def held(key: Key) -> Session:
    """The session of this process for ``key``; opened when there is none.

    Raises SpinodalError when campaign or ledger cannot be used.
    """
    if key not in _open:
        ledger = key.ledger or os.environ.get(LEDGER_VARIABLE)
        _open[key] = open_session(key.campaign, ledger, overrides=json.loads(key.overrides))
    return _open[key]


def release(key: Key) -> None:
    """Forget the session; its owner closes the ledger."""
    _open.pop(key, None)
