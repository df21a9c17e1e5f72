"""Rows for any schema: each table gets some, whatever its columns are."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    func,
    select,
)

ROWS = 3
#: Models name one of their variants, which name their model: that reference is left out.
_CIRCULAR = {"default_variant_id"}


def reflected(connection: Connection) -> list[Table]:
    """The tables that there are, those first that others refer to."""
    metadata = MetaData()
    metadata.reflect(connection)
    left = [table for table in metadata.tables.values() if table.name != "alembic_version"]
    ordered: list[Table] = []
    while left:
        free = [table for table in left if _parents(table) <= {done.name for done in ordered}]
        assert free, "tables refer to each other in a circle"
        ordered += free
        left = [table for table in left if table not in free]
    return ordered


def fill(connection: Connection, tables: list[Table]) -> None:
    """Puts `ROWS` rows into each table, which refer to each other where they can."""
    for table in tables:
        for number in range(1, ROWS + 1):
            connection.execute(table.insert().values({column.name: _value(column, number) for column in table.columns}))


def counts(connection: Connection) -> dict[str, int]:
    return {
        table.name: connection.scalar(select(func.count()).select_from(table)) or 0 for table in reflected(connection)
    }


def _parents(table: Table) -> set[str]:
    keys = (key for key in table.foreign_keys if key.parent.name not in _CIRCULAR)
    return {key.column.table.name for key in keys} - {table.name}


def _value(column: "Column[Any]", number: int) -> Any:
    if column.name in _CIRCULAR:
        return None
    for key in column.foreign_keys:
        return _value(key.column, number)
    if isinstance(column.type, JSON):
        return {"number": number, "text": "ü"} if number % 2 else None if column.nullable else []
    if column.nullable and number == ROWS:
        return None
    return _of_type(column, number)


def _of_type(column: "Column[Any]", number: int) -> Any:
    kinds: list[tuple[type, Any]] = [
        (Boolean, bool(number % 2)),
        (Integer, number),
        (Float, number / 7),
        (DateTime, datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC) + timedelta(days=number)),
        (LargeBinary, bytes([number, 0, 255])),
        (String, f"{column.name} {number}"[: getattr(column.type, "length", None)]),
    ]
    return next(value for kind, value in kinds if isinstance(column.type, kind))
