"""The registry's rows as JSON: out of one state of it, and back into an empty one, on either kind of database.

Rows go back into the schema that they are of; from there, migrations bring them up.
"""

import base64
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import (
    JSON,
    Connection,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    bindparam,
    func,
    null,
    select,
    text,
)
from sqlalchemy.orm import Session

from app.errors import Conflict, Invalid
from app.registry.database import Database
from app.registry.references import referenced
from app.registry.tables import Base, Worker

#: Processes of this service, of which another has none.
_LEFT_OUT = {Worker.__tablename__}
#: Names rows that name this one: it is filled in when they are there.
_LATE = ("models", "default_variant_id")
_ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class Snapshot:
    """One state of the registry, for as long as its context lasts."""

    connection: Connection

    def digests(self) -> set[str]:
        """Of all blobs that rows name."""
        with Session(self.connection) as session:
            return referenced(session)

    def tables(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """By name, the rows of each table, a line of JSON each; tables come after those that they refer to."""
        for table in _tables():
            yield table.name, self._rows(table)

    def _rows(self, table: Table) -> Iterator[bytes]:
        rows = self.connection.execute(select(table).execution_options(yield_per=_ROWS_AT_ONCE))
        for row in rows.mappings():
            yield json.dumps(dict(row), default=_encoded, separators=(",", ":")).encode() + b"\n"


@contextmanager
def snapshot(database: Database) -> Iterator[Snapshot]:
    """The state of now, whatever is written meanwhile."""
    engine = database.engine
    if engine.dialect.name == "postgresql":
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    with engine.connect() as connection, connection.begin():
        # The state is that of the first query.
        connection.execute(text("SELECT 1 FROM alembic_version"))
        yield Snapshot(connection)


def check_empty(database: Database) -> None:
    """Raises `Conflict` when the registry holds anything."""
    with database.engine.connect() as connection:
        known = _reflected(connection)
        full = [table.name for table in known if connection.scalar(select(func.count()).select_from(table))]
    if full:
        raise Conflict(f"the registry is not empty: there are rows in {', '.join(full)}; restore into a new one")


def load(session: Session, tables: Iterable[tuple[str, Iterable[bytes]]]) -> dict[str, int]:
    """Put rows as `Snapshot.tables` gives them into the registry; returns how many, by table.

    All in the transaction of `session`. Raises `Invalid` for what does not fit the registry's schema.
    """
    connection = session.connection()
    known = {table.name: table for table in _reflected(connection)}
    counts: dict[str, int] = {}
    late: list[dict[str, Any]] = []
    for name, lines in tables:
        if name not in known:
            raise Invalid(f"there are rows of '{name[:80]}', which this schema does not have")
        counts[name] = 0
        rest = iter(lines)
        while rows := [_decoded(known[name], line) for line in islice(rest, _ROWS_AT_ONCE)]:
            if name == _LATE[0]:
                late += [{"of": row["id"], "to": row.pop(_LATE[1])} for row in rows]
            connection.execute(known[name].insert(), rows)
            counts[name] += len(rows)
        _number_on(connection, known[name])
    if late:
        table = known[_LATE[0]]
        filled = table.update().where(table.c.id == bindparam("of")).values({_LATE[1]: bindparam("to")})
        connection.execute(filled, late)
    return counts


def _tables() -> list[Table]:
    return [table for table in Base.metadata.sorted_tables if table.name not in _LEFT_OUT]


def _reflected(connection: Connection) -> list[Table]:
    """The tables as the database has them, which may be of an older schema than the code's."""
    metadata = MetaData()
    metadata.reflect(connection, only=lambda name, _: name not in {*_LEFT_OUT, "alembic_version"})
    return list(metadata.tables.values())


def _encoded(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"a column holds a {type(value).__name__}, which dumps do not know")


def _decoded(table: Table, line: bytes) -> dict[str, Any]:
    row = json.loads(line)
    if not isinstance(row, dict) or row.keys() - table.columns.keys():
        raise Invalid(f"a row of '{table.name}' does not fit this schema")
    for column in table.columns:
        value = row.get(column.name)
        if value is None:
            # JSON of None is not what columns without a value hold.
            row[column.name] = null() if isinstance(column.type, JSON) else None
        elif isinstance(column.type, DateTime):
            row[column.name] = datetime.fromisoformat(value)
        elif isinstance(column.type, LargeBinary):
            row[column.name] = base64.b64decode(value)
    return row


def _number_on(connection: Connection, table: Table) -> None:
    """PostgreSQL counts its ids apart from the rows: have it go on after the largest."""
    key = list(table.primary_key)
    if connection.dialect.name != "postgresql" or len(key) != 1 or not isinstance(key[0].type, Integer):
        return
    largest = select(func.coalesce(func.max(key[0]), 0) + 1).scalar_subquery()
    connection.execute(select(func.setval(func.pg_get_serial_sequence(table.name, key[0].name), largest, False)))
