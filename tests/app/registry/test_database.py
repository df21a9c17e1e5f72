from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from app.registry import Database, OperationalError, is_full, models, workers
from tests import registries
from tests.app.registry.conftest import new_revision


def write_beyond(database: Database) -> None:
    """More than the one page that there is room for."""
    with database.writing() as session:
        session.execute(text("PRAGMA max_page_count = 1"))
        for number in range(1000):
            workers.beat(session, "w" * 240 + f"{number}", concurrency=1, running=0, forget_after_seconds=60)
            session.flush()


def test_a_registry_without_room_says_so(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/registry.sqlite3"
    registries.migrate(url)
    database = Database(url)
    with pytest.raises(OperationalError) as caught:
        write_beyond(database)
    assert is_full(caught.value)
    database.close()


def test_what_else_a_database_refuses_is_not_for_want_of_room(tmp_path: Path) -> None:
    nowhere = Database(f"sqlite:///{tmp_path}/nowhere/registry.sqlite3")
    with pytest.raises(OperationalError) as caught, nowhere.reading() as session:
        session.execute(text("SELECT 1"))
    assert not is_full(caught.value)
    assert is_full(OperationalError("INSERT", {}, psycopg.errors.DiskFull()))
    assert not is_full(OperationalError("INSERT", {}, psycopg.errors.AdminShutdown()))


def test_a_reader_sees_one_state_whatever_is_committed_meanwhile(database: Database) -> None:
    with database.writing() as session:
        models.register(session, "resnet", new_revision())
    with database.reading() as session:
        (model,) = models.listed(session)
        with database.writing() as other:
            models.delete(other, "resnet")
        session.expire_all()
        assert models.find_revision(session, model).number == 1
        assert [each.name for each in models.listed(session)] == ["resnet"]
    with database.reading() as session:
        assert models.listed(session) == []


def test_a_change_of_one_model_is_none_of_others_until_there_are_too_many(database: Database) -> None:
    before = database.commits
    with database.writing(changes="mine"):
        pass
    assert database.changed_since(before, "mine")
    assert not database.changed_since(before, "yours")
    assert not database.changed_since(database.commits, "mine")
    for number in range(1000):
        with database.writing(changes=f"model-{number}"):
            pass
    # What is forgotten counts as changed, and never the other way round.
    assert database.changed_since(before, "yours")
    assert not database.changed_since(database.commits, "yours")


def test_the_change_marker_stays_the_same_until_somebody_commits(database: Database) -> None:
    other = Database(database.url)
    marker = database.change_marker()
    assert marker is not None
    with database.reading() as session:
        session.execute(text("SELECT 1"))
    assert database.change_marker() == marker
    for number, writer in enumerate((database, other)):
        with writer.writing() as session:
            workers.beat(session, f"w{number}", concurrency=1, running=0, forget_after_seconds=60)
        marker, before = database.change_marker(), marker
        assert marker != before
    other.close()


def test_there_is_no_change_marker_where_no_registry_answers(tmp_path: Path) -> None:
    assert Database(f"sqlite:///{tmp_path}/nowhere/registry.sqlite3").change_marker() is None
