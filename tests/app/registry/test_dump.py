import json

import pytest

from app.errors import Conflict, Invalid
from app.registry import Database, dump
from tests import registries
from tests.app.registry.filled import ROWS, counts, fill, reflected


@pytest.fixture
def full(database: Database) -> Database:
    with database.engine.begin() as connection:
        fill(connection, reflected(connection))
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE models SET default_variant_id = id")
    return database


@pytest.fixture
def other(tmp_path, request: pytest.FixtureRequest, registry_url: str):  # type: ignore[no-untyped-def]
    """An empty registry of the other kind of database."""
    if registry_url.startswith("sqlite"):
        url = registries.new_postgresql(request.getfixturevalue("postgresql_server"))
    else:
        url = f"sqlite:///{tmp_path / 'other.sqlite3'}"
        registries.migrate(url)
    database = Database(url)
    yield database
    database.close()


def dumped(database: Database) -> dict[str, list[bytes]]:
    with dump.snapshot(database) as snapshot:
        return {name: list(rows) for name, rows in snapshot.tables()}


def test_every_row_comes_back_on_the_other_database(full: Database, other: Database) -> None:
    rows = dumped(full)
    with other.writing() as session:
        loaded = dump.load(session, rows.items())
    assert loaded == dict.fromkeys(rows, ROWS)
    assert len(loaded) > 15
    assert dumped(other) == rows
    assert '"default_variant_id":2' in rows["models"][1].decode()


def test_new_rows_are_numbered_after_those_that_came(full: Database, other: Database) -> None:
    with other.writing() as session:
        dump.load(session, dumped(full).items())
    with other.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO models (name, next_version, created_at) VALUES ('new', 1, '2026-01-01')"
        )
        assert connection.exec_driver_sql("SELECT id FROM models WHERE name = 'new'").scalar_one() == ROWS + 1


def test_a_snapshot_does_not_see_what_is_written_after_it(full: Database) -> None:
    with dump.snapshot(full) as snapshot:
        with full.engine.execution_options(octet_writing=True).begin() as connection:
            connection.exec_driver_sql("DELETE FROM models")
        assert {name: len(list(rows)) for name, rows in snapshot.tables()}["models"] == ROWS
    assert dumped(full)["models"] == []


def test_nothing_is_loaded_into_a_registry_that_holds_something(full: Database) -> None:
    with pytest.raises(Conflict, match=r"not empty.*models"):
        dump.check_empty(full)


@pytest.mark.parametrize(
    ("table", "row"),
    [("models", {"id": 1, "nickname": "x"}), ("robots", {"id": 1}), ("models", ["id"])],
)
def test_rows_of_another_schema_are_refused_and_leave_nothing(database: Database, table: str, row: object) -> None:
    good = {"id": 1, "name": "kept", "next_version": 1, "created_at": "2026-01-01T00:00:00+00:00"}
    tables = [("models", [json.dumps(good).encode()]), (table, [json.dumps(row).encode()])]
    with pytest.raises(Invalid, match="schema"), database.writing() as session:
        dump.load(session, tables)
    with database.engine.connect() as connection:
        assert set(counts(connection).values()) == {0}
