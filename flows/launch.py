"""Run a campaign under the workflow engine, or serve it on a schedule: what the commands call.

Nothing here imports prefect before its settings are in place.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from flows.server import check_room
from flows.sessions import LEDGER_VARIABLE, Key, hold, release
from flows.settings import engine, has_server
from loop.errors import SpinodalError
from loop.ledger import Ledger
from loop.session import Session


def parameters(campaign: str, ledger: Ledger, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a flow run. They are kept by the engine, so no password is among them:
    a database URL goes by the environment instead (`known_by_environment`).
    """
    return {
        "campaign": str(Path(campaign).resolve()),
        "ledger": str(ledger.path) if ledger.path else None,
        "overrides": dict(overrides),
    }


@contextmanager
def known_by_environment(ledger: Ledger) -> Iterator[None]:
    """A database's URL in the environment of the flow runs, as it was again afterwards."""
    before = os.environ.get(LEDGER_VARIABLE)
    if ledger.path is None:
        os.environ[LEDGER_VARIABLE] = ledger.url
    try:
        yield
    finally:
        os.environ.pop(LEDGER_VARIABLE, None)
        if before is not None:
            os.environ[LEDGER_VARIABLE] = before


@contextmanager
def _served(home: Path, *, services: bool = False, verbose: bool = False) -> Iterator[None]:
    """`engine`, in which what a server could not do is a SpinodalError."""
    private = not has_server()  # the disk of the user's own is none of ours
    with engine(home, services=services, verbose=verbose):
        from httpx import HTTPError

        try:
            yield
        except HTTPError as error:
            if private:
                check_room(home)
            told = " ".join(str(error).split())[:200] or type(error).__name__
            raise SpinodalError(
                f"the workflow server failed ({told}); the ledger has everything up to here: "
                "resume, or go on without it: spinodal resume --plain"
            ) from None


def run_campaign(
    campaign: str,
    overrides: Mapping[str, Any],
    session: Session,
    *,
    home: Path,
    verbose: bool = False,
) -> None:
    """Play an opened campaign to its end as a flow. ``home``: the engine's own folder.

    Raises what the steps raise; SpinodalError for everything the user can mend.
    """
    given = parameters(campaign, session.ledger, overrides)
    key = Key.of(**given)
    hold(key, session)
    try:
        session.progress("start workflow engine", 0, 1)
        with known_by_environment(session.ledger), _served(home, verbose=verbose):
            session.progress("start workflow engine", 1, 1)
            from prefect.exceptions import TerminationSignal

            from flows.campaign import run_campaign as play

            try:
                play(**given)
            except TerminationSignal:
                raise KeyboardInterrupt from None
    finally:
        release(key)


def serve_campaign(
    campaign: str,
    ledger: Ledger,
    overrides: Mapping[str, Any],
    *,
    name: str,
    every: timedelta | None,
    cron: str | None,
    finished: Callable[[], bool],
    tell: Callable[[str], None],
    home: Path,
    verbose: bool = False,
) -> None:
    """One round a firing until ``finished()``; blocks. ``home``: the engine's own folder.

    ``tell`` is handed one line about every firing that has ended. Raises SpinodalError when the
    server does not start or fails.
    """
    with known_by_environment(ledger), _served(home, services=True, verbose=verbose):
        from flows.deployment import serve

        given = parameters(campaign, ledger, overrides)
        serve(name, given, every=every, cron=cron, finished=finished, tell=tell)
