import os
from pathlib import Path

import pytest

from app.registry import Database, workers


def beat(database: Database, name: str) -> None:
    with database.writing() as session:
        workers.beat(session, name, concurrency=2, running=0, forget_after_seconds=60)


def alive(database: Database) -> list[str]:
    with database.reading() as session:
        return [worker.name for worker in workers.alive(session, within_seconds=60)]


def test_two_workers_with_one_folder_are_two(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = workers.name_here(tmp_path)
    monkeypatch.setattr(os, "getpid", lambda: 1)
    second = workers.name_here(tmp_path)
    beat(database, first)
    beat(database, second)
    beat(database, first)
    assert set(alive(database)) == {first, second}
    with database.writing() as session:
        workers.leave(session, first)
    assert alive(database) == [second]


def test_a_worker_is_known_by_its_folder(tmp_path: Path) -> None:
    name = workers.name_here(tmp_path)
    assert workers.is_here(name, tmp_path)
    assert not workers.is_here(name, tmp_path / "other")
    assert not workers.is_here("elsewhere:" + name.partition(":")[2], tmp_path)


def test_a_folder_with_a_long_name_leaves_room_for_the_number(tmp_path: Path) -> None:
    home = tmp_path / ("a" * 200) / ("b" * 200)
    name = workers.name_here(home)
    assert len(name) <= 255
    assert name.endswith(f":{os.getpid()}")
    assert workers.is_here(name, home)
