"""The workflow engine's surroundings: set before prefect is imported, so nothing here imports it.

A run of its own uses a private server whose database lies beside the ledger. Who has a server
already (PREFECT_API_URL) keeps it, and who has chosen PREFECT_HOME keeps that too.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

API_URL = "PREFECT_API_URL"
HOME = "PREFECT_HOME"

_ALWAYS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # Results are in the ledger; the engine keeps states, artifacts and logs only.
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "PREFECT_TASKS_DEFAULT_PERSIST_RESULT": "false",
}
_QUIET = {
    # What went wrong reaches the user as one line from the command; the full log is with the run.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
}


def environment(home: Path, *, verbose: bool = False) -> dict[str, str]:
    """Variables for the engine, for those the user has not set."""
    wanted = {HOME: str(home.resolve()), **_ALWAYS, **({} if verbose else _QUIET)}
    return {name: value for name, value in wanted.items() if name not in os.environ}


def has_server() -> bool:
    """Whether the user has named a server."""
    return bool(os.environ.get(API_URL))


def _send_pending_logs() -> None:
    # What the engine's handlers still hold would be retried for a minute once the server is gone.
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        for handler in logging.getLogger(name).handlers:
            handler.flush()


@contextmanager
def engine(home: Path, *, services: bool = False, verbose: bool = False) -> Iterator[str]:
    """Settings and a server for as long as the block lasts; yields the server's URL.

    ``home``: folder for the private server's database. ``services``: whether that server
    also has to fire schedules. Must be entered before prefect is imported.
    Raises SpinodalError when the server does not start, or the user's does not answer.
    """
    from flows.server import PrivateServer, check_reachable

    added = environment(home, verbose=verbose)
    os.environ.update(added)
    loud = logging.raiseExceptions
    # A failing server is told of once, not again for every log that cannot be sent to it.
    logging.raiseExceptions = loud and verbose
    try:
        if has_server():
            check_reachable(os.environ[API_URL])
            yield os.environ[API_URL]
            return
        home.mkdir(parents=True, exist_ok=True)
        with PrivateServer(home, services=services) as server:
            os.environ[API_URL] = server.url
            added[API_URL] = server.url
            try:
                yield server.url
            finally:
                _send_pending_logs()
    finally:
        logging.raiseExceptions = loud
        for name in added:
            os.environ.pop(name, None)
