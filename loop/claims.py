"""Whether a campaign is being run, asked without taking part: nothing is written or waited for.

A run holds a lock from its first step to its last (``Ledger.claim``), and the system frees it
when the process ends, however it ends. So the lock is the truth, and the age of the newest entry
is not: training may be silent for an hour, and a killed run looks alive for as long.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy import text

from loop.database import ADVISORY_SPACE
from loop.errors import LedgerError
from loop.ledger_reader import LedgerReader

HELD = {errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK}

# Of a lock with two keys (objsubid 2) the first is classid, the second objid.
_ADVISORY = text(
    "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database "
    "WHERE datname = current_database() AND locktype = 'advisory' AND granted "
    "AND classid = :space AND objid = :number AND objsubid = 2"
)


def is_running(ledger: LedgerReader, campaign: int) -> bool:
    """Whether some process, this one included, holds the campaign's claim at this moment.

    Raises LedgerError when that cannot be found out.
    """
    if ledger.path is None:
        with ledger._database.read() as connection:
            keys = {"space": ADVISORY_SPACE, "number": campaign}
            return bool(connection.scalar(_ADVISORY, keys))
    lock = Path(f"{ledger.path}.campaign-{campaign}.lock")
    try:
        return _is_locked(lock)
    except FileNotFoundError:  # never run here: a ledger may have been copied without its locks
        return False
    except OSError as error:
        raise LedgerError(
            f"ledger {ledger.path}: whether campaign {campaign} is being run cannot be told from "
            f"{lock.name} ({error.strerror}); make that file readable"
        ) from None


def _is_locked(path: Path) -> bool:
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows: there is no lock that several may share
        return _is_locked_exclusively(path)
    # A shared lock, so that two who ask at once do not take each other for a run.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in HELD:
            return True
        raise
    finally:
        os.close(descriptor)  # gives the lock back
    return False


def _is_locked_exclusively(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0, thread_local=False):
            return False
    except Timeout:
        return True
