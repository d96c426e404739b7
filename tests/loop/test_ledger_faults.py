"""What the surroundings do to a ledger: kills, second runs, full disks, strange files, crowds."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, event, make_url, text

import loop
from loop.errors import BusyError, LedgerError
from loop.ledger import Ledger
from loop.tables import SCHEMA, VERSION_TABLE, metadata
from tests.loop import ledger_fixtures
from tests.loop.ledger_fixtures import (
    BATCH,
    CHUNK,
    TARGETS,
    campaign,
    design,
    outcome,
    play,
)
from tests.surroundings import call_with_ordinary_rights

ROOT = Path(__file__).parents[2]
TIMES = ["planned_at", "evaluated_at"]


@contextlib.contextmanager
def writer(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs the campaign until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-m", ledger_fixtures.__name__, str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def test_killed_anywhere_the_ledger_is_whole_and_goes_on_as_if_undisturbed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger.open(path) as ledger:
        number = campaign(ledger)
        for more, delay in ((2, 0.0), (3, 0.0037), (3, 0.0071)):
            before = len(ledger.rounds(number))
            with writer(path) as process:

                def far_enough(wanted: int = before + more) -> bool:
                    return len(ledger.rounds(number)) >= wanted  # so the writer has its claim

                wait_for(far_enough)
                with pytest.raises(LedgerError, match=f"run by process {process.pid} on "):
                    ledger.claim(number).__enter__()
                time.sleep(delay)  # so that the kills do not all follow the same commit
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
            # Whole transactions only: batches complete, outcomes by whole chunks.
            frame = ledger.evaluations(number)
            done = frame[frame["status"] != "pending"].groupby("round").size()
            assert (frame.groupby("round").size() == BATCH).all()
            assert (done % CHUNK == 0).all()
            assert (done.iloc[:-1] == BATCH).all()
            with contextlib.closing(sqlite3.connect(path)) as raw:
                assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
        rounds = int(frame["round"].max()) + 2
        play(ledger, rounds)  # the claim is free again
        resumed = ledger.evaluations(number).drop(columns=TIMES)
    with Ledger.open(tmp_path / "undisturbed.db") as ledger:
        undisturbed = ledger.evaluations(play(ledger, rounds)).drop(columns=TIMES)
    pd.testing.assert_frame_equal(resumed, undisturbed)


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "l.db") as first, Ledger.open(tmp_path / "l.db") as second:
        number, other = campaign(first), campaign(first, "other")
        with first.claim(number):
            for ledger in (first, second):
                with (
                    pytest.raises(BusyError, match=f"run by process {os.getpid()} on"),
                    ledger.claim(number),
                ):
                    pass
            with second.claim(other):  # another campaign of the same ledger may run
                pass
            assert second.campaign_id("alloy") == number  # and reading is always possible
        with pytest.raises(RuntimeError, match="stopped"), second.claim(number):
            raise RuntimeError("stopped")
        with first.claim(number):
            pass
        with pytest.raises(OSError, match="of the run itself"), second.claim(number):
            raise OSError("of the run itself")  # is not mistaken for a fault of the ledger


def test_one_writer_and_eight_readers_never_lock_each_other_out(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    faults: list[BaseException] = []
    finished = threading.Event()
    reads = [0] * 8

    def guarded(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as fault:
            faults.append(fault)

    with Ledger.open(path) as shared:
        number = play(shared, rounds=1)

        def read(which: int) -> None:
            own = Ledger.open(path) if which % 2 else None
            ledger = own or shared
            while not finished.is_set() or not reads[which]:
                frame = ledger.evaluations(number, where="modulus_GPa > 195 or x_Re < 0.5")
                assert (frame["arm"] == "loop").all()
                sizes = ledger.evaluations(number, columns=["round"]).groupby("round").size()
                assert (sizes == BATCH).all()  # never half a batch
                reads[which] += 1
            if own:
                own.close()

        readers = [threading.Thread(target=guarded, args=(lambda i=i: read(i),)) for i in range(8)]
        for thread in readers:
            thread.start()
        guarded(lambda: play(shared, rounds=8))
        finished.set()
        for thread in readers:
            thread.join()
        assert faults == []
        assert min(reads) > 0
        assert shared.count(number, where="status != 'pending'") == 8 * BATCH


def test_chunks_of_a_batch_may_be_recorded_by_several_threads(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        number = campaign(ledger)
        seeds = list(range(32))
        ledger.plan_batch(number, "loop", 1, [design(s) for s in seeds])
        faults: list[BaseException] = []

        def record(start: int) -> None:
            try:
                part = [s % 32 for s in range(start, start + 8)]  # chunks overlap
                ledger.add_outcomes(
                    number, "loop", 1, part, [outcome(s) for s in part],
                    simulator="chain", version="1", targets=TARGETS,
                )  # fmt: skip
            except BaseException as fault:
                faults.append(fault)

        threads = [threading.Thread(target=record, args=(4 * i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert faults == []
        assert [r.outcome for r in ledger.records(number)] == [outcome(s) for s in seeds]


def test_a_ledger_opened_by_many_at_once_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folders" / "ledger.db"
    found: list[object] = []
    start = threading.Barrier(6)

    def make() -> None:
        start.wait()
        try:
            with Ledger.open(path) as ledger:
                found.append(campaign(ledger))
        except BaseException as fault:
            found.append(fault)

    threads = [threading.Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 6


def test_settings_that_keep_what_is_committed(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.db") as ledger, ledger._database.read() as connection:
        for pragma, expected in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
            assert connection.execute(text(f"PRAGMA {pragma}")).scalar() == expected


def test_a_full_disk_loses_only_the_call_that_met_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger.open(path) as ledger:
        play(ledger, rounds=2)
    with Ledger.open(path) as ledger:
        number = ledger.campaign_id()

        # SQLite's own limit gives the very error of a full disk, without filling one.
        def limit(connection: sqlite3.Connection, _record: object) -> None:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages + 4}")

        ledger._database.engine.dispose()
        event.listen(ledger._database.engine, "connect", limit)

        def fill() -> None:
            for index in range(3, 99):
                ledger.plan_batch(number, "loop", index, [design(index, size=64)] * 5)

        with pytest.raises(LedgerError, match="the disk is full; free some space") as caught:
            fill()
        assert "\n" not in str(caught.value)
        sizes = ledger.evaluations(number).groupby("round").size()
        assert sizes.iloc[:2].tolist() == [BATCH, BATCH]
        assert set(sizes.iloc[2:]) <= {5}
    with Ledger.open(path) as ledger:
        ledger.plan_batch(number, "loop", 99, [design(index) for index in range(20)])
        assert len(ledger.planned(number, "loop", 99)) == 20


def test_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger.open(path) as ledger:
        campaign(ledger)
    with contextlib.closing(sqlite3.connect(path)) as raw, raw:
        raw.execute(f"UPDATE {VERSION_TABLE} SET version_num = '0099'")
    for create in (True, False):
        with pytest.raises(LedgerError, match=r"schema '0099', newer than .*pip install -U"):
            Ledger.open(path, create=create)
    with contextlib.closing(sqlite3.connect(path)) as raw, raw:
        raw.execute(f"UPDATE {VERSION_TABLE} SET version_num = '{SCHEMA}'")
    with Ledger.open(path, create=False) as ledger:
        assert ledger.campaign_id("alloy") == 1


def test_migrations_give_the_tables_that_the_program_uses(tmp_path: Path) -> None:
    Ledger.open(tmp_path / "ledger.db").close()
    engine = create_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True}
        )
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == SCHEMA
    engine.dispose()
    config = Config()
    (folder,) = loop.__path__
    config.set_main_option("script_location", str(Path(folder) / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == SCHEMA


def test_files_that_are_no_ledger_are_refused_unchanged(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"\x89PNG\r\n" * 1000)
    foreign = tmp_path / "foreign.db"
    with contextlib.closing(sqlite3.connect(foreign)) as raw, raw:
        raw.execute("CREATE TABLE songs (title TEXT)")
    damaged = tmp_path / "damaged.db"
    Ledger.open(damaged).close()
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:100] + b"\xff" * 8000 + whole[8100:])
    for path, message in (
        (garbage, "not a ledger"),
        (foreign, r"another program \(tables songs\)"),
        (damaged, "damaged or not a ledger"),
        (tmp_path, "is a folder"),
        (garbage / "ledger.db", "garbage.db"),
    ):
        before = path.read_bytes() if path.is_file() else None
        with pytest.raises(LedgerError, match=message) as caught:
            Ledger.open(path)
        assert "\n" not in str(caught.value)
        assert before is None or path.read_bytes() == before
    for path in (tmp_path / "missing.db", tmp_path / "empty.db"):
        (tmp_path / "empty.db").touch()
        with pytest.raises(LedgerError, match="no ledger at"):
            Ledger.open(path, create=False)
    Ledger.open(tmp_path / "empty.db").close()


def open_where_nothing_may_be_written(folder: str) -> None:
    for path in (Path(folder, "ledger.db"), Path(folder, "sub", "ledger.db")):
        with pytest.raises(LedgerError, match=r"cannot be (written|opened)"):
            Ledger.open(path)


def test_a_folder_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        call_with_ordinary_rights(open_where_nothing_may_be_written, str(tmp_path))
    finally:
        tmp_path.chmod(0o700)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite://", "memory"),
        (":memory:", "memory"),
        ("mysql://host/name", "cannot be kept in mysql"),
        ("://", "neither a path nor a database URL|cannot be kept in"),
    ],
)
def test_places_where_no_ledger_can_be(url: str, message: str) -> None:
    with pytest.raises(LedgerError, match=message):
        Ledger.open(url)


def test_the_url_opens_the_same_ledger_whatever_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger.open(tmp_path / "a b?c#d%20é" / "ledger.db") as ledger:
        campaign(ledger)
        url = ledger.url
    with Ledger.open(url, create=False) as ledger:
        assert ledger.campaigns()["name"].tolist() == ["alloy"]
    monkeypatch.chdir(tmp_path)
    with Ledger.open("sqlite:///here.db") as ledger:
        assert ledger.path == tmp_path / "here.db"


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(LedgerError, match=r"pip install spinodal\[postgres\]"):
        Ledger.open("postgresql://localhost/ledger")


needs_postgresql = pytest.mark.skipif(
    "SPINODAL_TEST_POSTGRES" not in os.environ,
    reason="needs the URL of an empty database in SPINODAL_TEST_POSTGRES",
)


@needs_postgresql
def test_a_database_that_cannot_be_opened_is_explained_without_its_password() -> None:
    url = make_url(os.environ["SPINODAL_TEST_POSTGRES"])
    elsewhere = {**url.query, "host": "/nowhere"}
    for wrong, message in (
        (url.set(database="missing", password="secret"), 'database "missing" does not exist'),
        (url.set(query=elsewhere, password="secret"), "No such file or directory"),
    ):
        with pytest.raises(LedgerError, match=message) as caught:
            Ledger.open(wrong.render_as_string(hide_password=False))
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)


@needs_postgresql
def test_postgresql_holds_the_same_ledger(tmp_path: Path) -> None:
    with Ledger.open(os.environ["SPINODAL_TEST_POSTGRES"]) as there:
        number = play(there, rounds=6)
        with there.claim(number), pytest.raises(BusyError, match="is being run by process"):
            there.claim(number).__enter__()
        with Ledger.open(tmp_path / "ledger.db") as here:
            play(here, rounds=6)
            for where in (None, "not hit and modulus_GPa > 195", "round in (1, 2.5) or x_Re < 0.2"):
                pd.testing.assert_frame_equal(
                    there.evaluations(where=where, sort="distance").drop(columns=TIMES),
                    here.evaluations(where=where, sort="distance").drop(columns=TIMES),
                )
        with pytest.raises(LedgerError, match="already has another batch"):
            there.plan_batch(number, "loop", 1, [design(1)])
