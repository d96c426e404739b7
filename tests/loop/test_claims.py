"""Whether a campaign is being run: the lock says so at once, and asking leaves no trace."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loop.claims import is_running
from loop.errors import LedgerError
from loop.ledger import Ledger
from tests.loop.ledger_fixtures import campaign

ROOT = Path(__file__).parents[2]
HOLD = """
import sys, time
from loop.ledger import Ledger
with Ledger.open(sys.argv[1]) as ledger, ledger.claim(int(sys.argv[2])):
    print("held", flush=True)
    time.sleep(600)
"""


def lock_file(ledger: Ledger, number: int) -> Path:
    return Path(f"{ledger.path}.campaign-{number}.lock")


@pytest.mark.parametrize("system", ["POSIX", "Windows"])
def test_it_runs_while_the_claim_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    if system == "Windows":
        monkeypatch.setitem(sys.modules, "fcntl", None)
    with Ledger.open(tmp_path / "l.db") as ledger, Ledger.open(tmp_path / "l.db") as page:
        number, other = campaign(ledger), campaign(ledger, "other")
        assert not is_running(page, number)
        assert not lock_file(ledger, number).exists()  # asking does not make it
        with ledger.claim(number):
            assert is_running(page, number)
            assert is_running(ledger, number)
            assert not is_running(page, other)
        assert not is_running(page, number)
        with pytest.raises(RuntimeError), ledger.claim(number):
            raise RuntimeError
        assert not is_running(page, number)


def test_a_killed_run_is_seen_at_once(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "l.db") as ledger:
        number = campaign(ledger)
        command = [sys.executable, "-c", HOLD, str(ledger.path), str(number)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
            assert run.stdout is not None
            try:
                assert run.stdout.readline() == "held\n"
                assert is_running(ledger, number)
            finally:
                os.kill(run.pid, signal.SIGKILL)
            run.wait()
        assert not is_running(ledger, number)


def test_asking_changes_nothing_and_stands_in_nobodys_way(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "l.db") as ledger:
        number = campaign(ledger)

        def claims() -> int:
            with contextlib.closing(sqlite3.connect(tmp_path / "l.db")) as raw:
                count: int = raw.execute("SELECT count(*) FROM claim").fetchone()[0]
                return count

        for taken in (1, 2):
            with ledger.claim(number):
                assert is_running(ledger, number)
            assert claims() == taken
            written = lock_file(ledger, number).stat().st_mtime_ns
            assert [is_running(ledger, number) for _ in range(200)] == [False] * 200
            assert claims() == taken
            assert lock_file(ledger, number).stat().st_mtime_ns == written
        with lock_file(ledger, number).open() as file:  # another who asks at the same time
            fcntl.flock(file, fcntl.LOCK_SH)
            assert not is_running(ledger, number)


def test_a_copied_ledger_is_not_running(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "l.db") as ledger:
        number = campaign(ledger)
        with ledger.claim(number):
            with contextlib.closing(sqlite3.connect(tmp_path / "l.db")) as raw:
                raw.execute("VACUUM INTO ?", (str(tmp_path / "copy.db"),))
            with Ledger.open(tmp_path / "copy.db") as copy:
                assert not is_running(copy, number)


def test_a_lock_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "l.db") as ledger:
        number = campaign(ledger)
        lock = lock_file(ledger, number)
        lock.symlink_to(lock)  # nobody can open it, not even root
        with pytest.raises(LedgerError, match=r"campaign-1\.lock .*; make that file readable"):
            is_running(ledger, number)


@pytest.mark.skipif(
    "SPINODAL_TEST_POSTGRES" not in os.environ, reason="needs the URL of an empty database"
)
def test_postgresql_knows_it_too() -> None:
    url = os.environ["SPINODAL_TEST_POSTGRES"]
    with Ledger.open(url) as ledger, Ledger.open(url) as page:
        number, other = campaign(ledger, "claimed"), campaign(ledger, "unclaimed")
        assert not is_running(page, number)
        with ledger.claim(number):
            assert is_running(page, number)
            assert is_running(ledger, number)
            assert not is_running(page, other)
        assert not is_running(page, number)
        command = [sys.executable, "-c", HOLD, url, str(number)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
            assert run.stdout is not None
            try:
                assert run.stdout.readline() == "held\n"
                assert is_running(page, number)
            finally:
                os.kill(run.pid, signal.SIGKILL)
            run.wait()
        end = time.monotonic() + 60  # the server takes a moment to see that its client is gone
        while is_running(page, number):
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.01)
