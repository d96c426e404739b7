"""A campaign's session on a ledger that exists: for questions that begin nothing."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interface.cli_common import chosen_ledger, default_ledger, program
from interface.cli_run import RESUMED_SETTINGS
from loop.errors import LedgerError

if TYPE_CHECKING:
    from loop.protocols import Progress
    from loop.session import Session

NO_RECORDS = "no records yet, so its surrogate knows nothing"
NO_GENERATOR = "no trained generator yet"


def existing_place(campaign: Path, ledger: str | None, lacks: str) -> str | Path:
    """The ledger that is named, or the campaign's own.

    ``lacks``: what a campaign without it has not. Raises LedgerError where there is no such file.
    """
    from loop.campaign import load_campaign
    from loop.database import sqlite_path

    name = load_campaign(campaign).name
    place = chosen_ledger(ledger) or default_ledger(name)
    path = sqlite_path(place)
    if path is not None and not path.exists():
        raise LedgerError(
            f"campaign {name!r} has {lacks}: there is no ledger {path}; run it first "
            f"({program()} run {shlex.quote(str(campaign))}) or name its ledger with --ledger"
        )
    return place


def length_on_record(place: str | Path, name: str, lacks: str) -> dict[str, Any]:
    """Overrides of a campaign file that give it the length it was last run for.

    Opened with another, a session would note a new start in the ledger. ``lacks``: what a campaign
    that is not in the ledger has not. Raises LedgerError where it is not, or there is no ledger.
    """
    from loop.ledger import Ledger

    with Ledger.open(place, create=False) as ledger:
        try:
            number = ledger.campaign_id(name)
        except LedgerError as error:
            raise LedgerError(f"campaign {name!r} has {lacks}; run it first ({error})") from None
        settings = ledger.campaign_settings(number)
    return {"loop": {key: settings["loop"][key] for key in RESUMED_SETTINGS}}


@contextmanager
def recorded_session(
    campaign: Path,
    place: str | Path,
    *,
    lacks: str = NO_RECORDS,
    progress: Progress | None = None,
) -> Iterator[Session]:
    """A session on a ledger that has the campaign, with the length that it was run for.

    ``lacks``: see ``length_on_record``. Raises LedgerError where the ledger, or the campaign in
    it, does not exist: nothing is begun.
    """
    from flows.assembly import open_session
    from loop.campaign import load_campaign
    from loop.protocols import silent

    length = length_on_record(place, load_campaign(campaign).name, lacks)
    session = open_session(campaign, place, overrides=length, progress=progress or silent)
    with session.ledger:
        yield session


@contextmanager
def trained_session(
    campaign: Path, ledger: str | None, progress: Progress | None = None
) -> Iterator[Session]:
    """A session on a ledger that has the campaign, for what asks its trained generator.

    Raises LedgerError where there is none.
    """
    place = existing_place(campaign, ledger, NO_GENERATOR)
    with recorded_session(campaign, place, lacks=NO_GENERATOR, progress=progress) as session:
        yield session
