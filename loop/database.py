"""Connections to a ledger's database: SQLite files and PostgreSQL, schema, errors, run locks."""

from __future__ import annotations

import errno
import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from filelock import FileLock, Timeout
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    QueuePool,
    create_engine,
    event,
    exc,
    func,
    inspect,
    make_url,
    select,
    text,
)

from loop.errors import BusyError, LedgerError, SpinodalError
from loop.tables import SCHEMA, VERSION_TABLE

BUSY_SECONDS = 60
SQLITE_MAGIC = b"SQLite format 3\0"
ADVISORY_SPACE = 0x5B1D  # keeps our advisory locks apart from other programs'


@dataclass(frozen=True)
class Database:
    """An engine with short transactions; may be used from several threads at once."""

    url: str  # opens the same database again; on PostgreSQL it holds the password
    shown: str  # for messages
    engine: Engine
    path: Path | None  # of the SQLite file

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one state of the ledger, whatever is written meanwhile."""
        with explained(self.shown), self.engine.connect() as connection:
            if self.path is None:
                connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: all of it is kept, or none."""
        with explained(self.shown), self.engine.connect() as connection:
            connection.execution_options(ledger_write=True)
            with connection.begin():
                yield connection

    @contextmanager
    def exclusive(self, number: int, busy: Callable[[], str]) -> Iterator[None]:
        """Hold lock ``number`` of this ledger; it is freed when the process ends, however it ends.

        Raises BusyError with the message of ``busy`` when another run holds it.
        """
        if self.path is None:
            with self._advisory_lock(number, busy):
                yield
            return
        # thread_local off: a run may be closed from another thread than it was started in.
        lock = FileLock(f"{self.path}.campaign-{number}.lock", thread_local=False)
        with explained(self.shown):
            try:
                lock.acquire(timeout=0.2)  # a page that looks holds it for microseconds
            except Timeout:
                raise BusyError(busy()) from None
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _advisory_lock(self, number: int, busy: Callable[[], str]) -> Iterator[None]:
        with ExitStack() as stack:
            with explained(self.shown):  # not around the yield: a run has errors of its own
                connection = stack.enter_context(self.engine.connect())
                connection.execution_options(isolation_level="AUTOCOMMIT")
                locked = select(func.pg_try_advisory_lock(ADVISORY_SPACE, number))
                if not connection.scalar(locked):
                    raise BusyError(busy())
            try:
                yield
            finally:
                with suppress(exc.DBAPIError):  # a lost connection has already freed the lock
                    connection.execute(select(func.pg_advisory_unlock(ADVISORY_SPACE, number)))

    def close(self) -> None:
        self.engine.dispose()


def this_process() -> tuple[int, str]:
    """(process id, host name)."""
    return os.getpid(), socket.gethostname()


def open_database(place: str | Path, *, create: bool) -> Database:
    """Open a SQLite path or a SQLAlchemy URL and bring its schema up to date.

    Raises LedgerError when it is missing (and not to be created), is no ledger, is newer than
    this program, or cannot be read or written.
    """
    path = sqlite_path(place)
    database = _server(str(place)) if path is None else _file(path, create=create)
    try:
        _upgrade(database)
    except BaseException:
        database.close()
        raise
    return database


def sqlite_path(place: str | Path) -> Path | None:
    if isinstance(place, str) and "://" in place:
        # By hand, for a path may contain what has a meaning in a URL.
        scheme, _, rest = place.partition("://")
        if scheme.split("+")[0] != "sqlite":
            return None
        place = rest.removeprefix("/")
    if str(place) in ("", ":memory:"):
        raise LedgerError("a ledger cannot live in memory only; give the path of a file")
    return Path(os.path.abspath(Path(place).expanduser()))  # noqa: PTH100 - links stay as named


def _file(path: Path, *, create: bool) -> Database:
    with explained(str(path)):
        if path.is_dir():
            raise LedgerError(f"{path} is a folder; give the path of a ledger file")
        if path.exists() and (create or path.stat().st_size):
            with path.open("rb") as file:
                start = file.read(len(SQLITE_MAGIC))
            if start not in (b"", SQLITE_MAGIC):
                raise LedgerError(
                    f"{path} is not a ledger (not a SQLite database); give another file"
                )
        elif not create:
            raise LedgerError(
                f"no ledger at {path}; `spinodal run CAMPAIGN` makes one, or give its path"
            )
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
    url = URL.create("sqlite", database=str(path))
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=8,
        max_overflow=-1,  # threads are never kept waiting for a connection
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
    )
    event.listen(engine, "connect", _on_sqlite_connect)
    event.listen(engine, "begin", _on_sqlite_begin)
    return Database(f"sqlite:///{path}", str(path), engine, path)


def _on_sqlite_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by us, not by the driver
    cursor = connection.cursor()
    try:
        # FULL: a commit has reached the disk when it returns, power cut or not.
        for setting in ("foreign_keys = ON", "synchronous = FULL"):
            cursor.execute(f"PRAGMA {setting}")
    finally:
        cursor.close()


def _on_sqlite_begin(connection: Connection) -> None:
    # A transaction that reads first and then writes could fail half-way when another has written
    # between; IMMEDIATE takes its turn (waiting BUSY_SECONDS at most) before it reads.
    writes = connection.get_execution_options().get("ledger_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _server(place: str) -> Database:
    try:
        url = make_url(place)
    except exc.ArgumentError:
        raise LedgerError(
            f"{place!r} is neither a path nor a database URL such as "
            "postgresql://user:password@host/name"
        ) from None
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise LedgerError(
            f"a ledger cannot be kept in {url.get_backend_name()}; "
            "give a SQLite path or a postgresql:// URL"
        )
    url = url.set(drivername="postgresql+psycopg")
    try:
        engine = create_engine(url, pool_pre_ping=True, pool_size=8, max_overflow=-1)
    except ModuleNotFoundError:
        raise LedgerError(
            "PostgreSQL needs the package psycopg; install it with `pip install spinodal[postgres]`"
        ) from None
    return Database(url.render_as_string(hide_password=False), url.render_as_string(), engine, None)


def _upgrade(database: Database) -> None:
    with database.read() as connection:
        version = _version(connection, database)
    if database.path is not None:
        # Only now that it is known to be ours: the mode is kept in the file. No transaction may
        # be open, hence the driver's own connection.
        with explained(database.shown), closing(database.engine.raw_connection()) as raw:
            raw.cursor().execute("PRAGMA journal_mode = WAL").close()
    if version == SCHEMA:
        return
    # Imported here: only a new or old ledger needs alembic.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option(
        "script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%")
    )
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if version is not None and version not in known:
        raise LedgerError(
            f"ledger {database.shown} has schema {version!r}, newer than this program's "
            f"({SCHEMA!r}); update it (`pip install -U spinodal`) or give another ledger"
        )
    with database.write() as connection:
        if database.path is None:  # on SQLite the write transaction itself is exclusive
            connection.execute(select(func.pg_advisory_xact_lock(ADVISORY_SPACE, 0)))
        if _version(connection, database) == version:  # another process may have been quicker
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _version(connection: Connection, database: Database) -> str | None:
    tables = inspect(connection).get_table_names()
    if VERSION_TABLE in tables:
        version = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
        return None if version is None else str(version)
    if tables and database.path is not None:
        raise LedgerError(
            f"{database.shown} is a database of another program (tables {', '.join(tables[:3])}); "
            "give another file"
        )
    return None


_KNOWN_FAULTS = (
    (
        ("database or disk is full", "no space left", "disk full"),
        "the disk is full; free some space and resume, nothing that was recorded is lost",
    ),
    (
        ("readonly database", "read-only", "permission denied"),
        "it cannot be written; make it and its folder writable or copy it to one that is",
    ),
    (
        ("unable to open database file",),
        "it cannot be opened; make sure that its folder exists and is writable",
    ),
    (
        ("not a database", "malformed", "file is encrypted"),
        "it is damaged or not a ledger; restore a copy or give another file",
    ),
    (
        ("database is locked",),
        "another program has kept it locked for a minute; close that program",
    ),
    (
        ("disk i/o error",),
        "the disk reported an error; check the disk (and its free space) and resume",
    ),
)


@contextmanager
def explained(shown: str) -> Iterator[None]:
    """Turn what the surroundings can do to a ledger into one line that tells how to mend it."""
    try:
        yield
    except exc.StatementError as error:
        if isinstance(error.orig, SpinodalError):  # from the conversion of a value
            raise error.orig from None
        if not isinstance(error, exc.DBAPIError):
            raise
        _raise_explained(shown, error, str(error.orig))
    except (sqlite3.Error, OSError) as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        _raise_explained(shown, error, "no space left" if full else str(error))


def _raise_explained(shown: str, error: Exception, cause: str) -> NoReturn:
    for signs, mend in _KNOWN_FAULTS:
        if any(sign in cause.lower() for sign in signs):
            raise LedgerError(f"ledger {shown}: {mend}") from error
    if isinstance(error, (exc.OperationalError, sqlite3.OperationalError, OSError)):
        first = cause.strip().splitlines()[0] if cause.strip() else type(error).__name__
        raise LedgerError(f"ledger {shown}: {first}; check the path or URL") from error
    raise error
