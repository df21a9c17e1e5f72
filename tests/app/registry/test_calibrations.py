"""Statistics kept for the next job."""

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import func, select

from app.registry import Database, Session, calibrations, datasets, models
from app.registry.tables import Calibration
from tests.app.registry.conftest import new_revision

_SETTINGS = {"calibration_samples": 256, "seed": 0, "format": 1}


def keep(
    session: Session, key: str = "k" * 64, *, model: str = "m" * 64, dataset: str = "d" * 64, **given: bytes
) -> bool:
    found = given.get("statistics", b"found")
    return calibrations.keep(session, key, model_digest=model, dataset_digest=dataset, statistics=found)


def kept(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(Calibration)) or 0


def test_what_is_kept_is_found_under_its_key_and_no_other(database: Database) -> None:
    with database.writing() as session:
        assert keep(session)
    with database.reading() as session:
        assert calibrations.find(session, "k" * 64) == b"found"
        assert calibrations.find(session, "l" * 64) is None


@pytest.mark.parametrize(
    ("model", "dataset", "settings"),
    [("n", "d", _SETTINGS), ("m", "e", _SETTINGS), ("d", "m", _SETTINGS), ("m", "d", {**_SETTINGS, "seed": 1})],
)
def test_another_model_dataset_or_setting_is_another_key(model: str, dataset: str, settings: dict[str, object]) -> None:
    assert calibrations.key(model, dataset, settings) != calibrations.key("m", "d", _SETTINGS)
    backwards = dict(reversed(settings.items()))
    assert calibrations.key(model, dataset, backwards) == calibrations.key(model, dataset, settings)


def test_keeping_again_replaces(database: Database) -> None:
    for statistics in (b"first", b"second"):
        with database.writing() as session:
            assert keep(session, statistics=statistics)
    with database.reading() as session:
        assert calibrations.find(session, "k" * 64) == b"second"


def test_what_is_too_large_is_not_kept(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrations, "LARGEST_BYTES", 4)
    with database.writing() as session:
        assert not keep(session)
    assert kept(database) == 0


def test_the_newest_remain(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrations, "KEPT", 3)
    for number in range(6):
        with database.writing() as session:
            keep(session, str(number))
    with database.reading() as session:
        found = [number for number in range(6) if calibrations.find(session, str(number))]
    assert found == [3, 4, 5]


def test_what_the_database_refuses_leaves_the_rest_of_the_transaction(database: Database) -> None:
    with database.writing() as session:
        refused = calibrations.keep(session, "k", model_digest=None, dataset_digest="d", statistics=b"")  # type: ignore[arg-type]
        assert not refused
        keep(session, "other")
    assert kept(database) == 1


def test_keepers_of_one_key_at_once_do_not_fail_each_other(database: Database) -> None:
    failures: list[Exception] = []
    begin = threading.Barrier(4)

    def run(number: int) -> None:
        try:
            begin.wait()
            with database.writing() as session:
                keep(session, statistics=bytes([number]))
        except Exception as error:  # noqa: BLE001 - whatever it is, the test is to see it
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert kept(database) == 1


def registered(session: Session, name: str, digest: str) -> None:
    models.register(session, name, new_revision(digest=digest))


def with_dataset(session: Session, name: str, digest: str) -> None:
    new = datasets.NewDataset(digest, size_bytes=1, samples=1, arrays=[], labelled=False, class_names=None)
    datasets.register(session, name, new)


@pytest.mark.parametrize(
    ("register", "delete"), [(registered, models.delete), (with_dataset, datasets.delete)], ids=["model", "dataset"]
)
def test_statistics_go_with_the_last_that_has_the_digest(
    database: Database,
    register: Callable[[Session, str, str], None],
    delete: Callable[[Session, str], object],
) -> None:
    with database.writing() as session:
        register(session, "one", "9" * 64)
        register(session, "two", "9" * 64)
        register(session, "other", "8" * 64)
        keep(session, model="9" * 64, dataset="9" * 64)
    for name, left in (("other", 1), ("one", 1), ("two", 0)):
        with database.writing() as session:
            delete(session, name)
        assert kept(database) == left
