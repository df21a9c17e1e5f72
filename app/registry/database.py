"""Engines and transactions: SQLite in WAL mode, or PostgreSQL."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

#: What a transaction may change of what is served.
ALL, NOTHING = "*", ""

_WRITING = "octet_writing"
#: Models that are told apart: of more, all count as changed.
_MOST_CHANGED = 1000


class Database:
    """A registry at `url`. Sessions are short: one transaction each."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = _sqlite_engine(url) if url.startswith("sqlite") else _server_engine(url)
        #: Transactions that this process has committed, but for those that change nothing that is served; and those
        #: that failed, of which some may have been committed before their answer was lost.
        self.commits = self.failures = 0
        self._changed: dict[str, int] = {}
        self._counting = threading.Lock()
        path = self.engine.url.database
        self._watch = _SqliteWatch(path) if self.engine.dialect.name == "sqlite" and path else None
        self._reading = sessionmaker(_at_one_moment(self.engine), expire_on_commit=False)
        self._writing = sessionmaker(self.engine.execution_options(**{_WRITING: True}), expire_on_commit=False)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that changes nothing: it sees one state of the registry, and holds up no writer."""
        with self._reading() as session:
            yield session

    @contextmanager
    def writing(self, changes: str = ALL) -> Iterator[Session]:
        """A transaction that commits at the end of the block, or leaves nothing when the block raises.

        On SQLite there is one writer at a time, and a second waits for the first. `changes`: the name of the model of
        which something else may be served afterwards, `ALL` where it may be any, or `NOTHING`; it is told to those who
        remember what is served.
        """
        try:
            with self._writing.begin() as session:
                yield session
        except BaseException:
            if changes != NOTHING:
                with self._counting:
                    self.failures += 1
            raise
        if changes != NOTHING:
            with self._counting:
                self.commits += 1
                self._changed[changes] = self.commits
                if len(self._changed) > _MOST_CHANGED:
                    self._changed = {ALL: self.commits}

    def changed_since(self, commits: int, model: str) -> bool:
        """Whether this process has changed what is served of `model` since `self.commits` was that."""
        return max(self._changed.get(model, 0), self._changed.get(ALL, 0)) > commits

    def reachable(self) -> bool:
        """Whether a query is answered now."""
        try:
            with self.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except DBAPIError:
            return False
        return True

    def change_marker(self) -> str | None:
        """A text that stays the same while no process commits anything; it costs next to nothing.

        None where the registry does not answer, or cannot tell.
        """
        try:
            if self._watch is not None:
                return self._watch.marker()
            with self.engine.connect() as connection:
                return str(connection.execute(text("SELECT txid_current_snapshot()::text")).scalar_one())
        except (DBAPIError, sqlite3.Error):
            return None

    def clock(self) -> datetime:
        """The time where the registry is."""
        if self.engine.dialect.name == "sqlite":
            return datetime.now(UTC)
        with self.engine.connect() as connection:
            there: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        return there

    def close(self) -> None:
        if self._watch is not None:
            self._watch.close()
        self.engine.dispose()


class _SqliteWatch:
    """A connection that never writes, so that each change of the file is one of somebody else. Thread-safe."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def marker(self) -> str:
        with self._lock:
            if self._connection is None:
                self._connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
            return str(version)

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


def _at_one_moment(engine: Engine) -> Engine:
    """With transactions that see one state from their first statement on, as those of SQLite do anyway."""
    if engine.dialect.name == "sqlite":
        return engine
    return engine.execution_options(isolation_level="REPEATABLE READ")


def _server_engine(url: str) -> Engine:
    # pre-ping: a restarted server costs the next request a reconnect, not an error. Errors hide parameters: they hold
    # what clients sent, and errors are logged.
    return create_engine(
        url,
        pool_pre_ping=True,
        pool_size=10,
        max_overflow=20,
        hide_parameters=True,
        connect_args=_PATIENCE if "psycopg" in url else {},
    )


#: A server that a network cuts off without a word is given up for after so long, and not after minutes.
_PATIENCE = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


def _sqlite_engine(url: str) -> Engine:
    engine = create_engine(url, connect_args={"timeout": 30}, pool_size=10, max_overflow=20, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: Any) -> None:
        # The driver's own BEGIN comes too late to read and write in one snapshot: ours is below.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A reader that turns writer can be refused by SQLite in mid-transaction: writers say so first.
        writing = connection.get_execution_options().get(_WRITING)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


#: The code that PostgreSQL gives it.
_DISK_FULL = "53100"


def is_full(error: OperationalError) -> bool:
    """Whether what was to be written was refused for want of room on the registry's disk."""
    if isinstance(error.orig, sqlite3.Error):
        return error.orig.sqlite_errorcode == sqlite3.SQLITE_FULL
    return getattr(error.orig, "sqlstate", None) == _DISK_FULL


def lock_blobs(session: Session) -> None:
    """Hold, until this transaction ends, the right to link or remove blobs.

    Without it a blob could be removed as unreferenced between another upload's storing it and committing
    the row that names it. SQLite's single writer needs no further lock than to have begun.
    """
    connection = session.connection()
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(811734001)"))
