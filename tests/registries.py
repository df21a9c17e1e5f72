"""Migrated registries in a moment: the migrations run once per process, and each test gets a copy of what they made."""

import tempfile
from functools import cache
from pathlib import Path

from app.registry import Database, migrations
from tests.servers import PostgreSQL

_SQLITE = "sqlite:///"
_POSTGRESQL_TEMPLATE = "octet_migrated"


def migrate(url: str) -> None:
    """Write a registry with the current schema to the SQLite `url`, where none exists yet."""
    Path(url.removeprefix(_SQLITE)).write_bytes(_migrated_sqlite())


def new_postgresql(server: PostgreSQL) -> str:
    """Create a registry with the current schema on `server`; return its URL."""
    if not server.has(_POSTGRESQL_TEMPLATE):
        migrations.upgrade(with_driver(server.database(_POSTGRESQL_TEMPLATE)))
    return with_driver(server.database(template=_POSTGRESQL_TEMPLATE))


def with_driver(url: str) -> str:
    """The URL of a PostgreSQL database as SQLAlchemy takes it."""
    return url.replace("postgresql://", "postgresql+psycopg://")


@cache
def _migrated_sqlite() -> bytes:
    """The bytes of a registry that has had all migrations and holds no row."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "registry.sqlite3"
        migrations.upgrade(f"{_SQLITE}{path}")
        database = Database(f"{_SQLITE}{path}")
        with database.engine.connect() as connection:
            # What the journal holds would not be in the file.
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        database.close()
        return path.read_bytes()
