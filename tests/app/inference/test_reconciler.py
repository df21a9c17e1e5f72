"""What other processes change is followed: each test changes the registry behind the back of the pool."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.blobs import open_store
from app.inference.reconciler import Reconciler
from app.registry import Database, models, variants
from app.serving.pool import Artifact, Pool
from app.serving.statistics import Statistics
from app.settings import Settings
from tests import graphs, registries
from tests.app.registry.conftest import new_revision
from tests.app.serving.artifacts import kept_model


class House:
    """A registry with one model, its artifact, and a pool."""

    def __init__(self, folder: Path) -> None:
        url = f"sqlite:///{folder / 'registry.sqlite3'}"
        registries.migrate(url)
        self.database = Database(url)
        self.blobs = open_store(Settings(home=folder))
        self.pool = Pool(self.blobs, folder, folder / "mapped", intra_op_threads=1)
        self.statistics = Statistics()
        self.artifact = self.add("linear", kept_model(self.blobs, graphs.linear_classifier(), folder))

    def add(self, name: str, artifact: Artifact) -> Artifact:
        with self.database.writing() as session:
            models.register(session, name, new_revision(file_digest=artifact.digest))
        return artifact

    def unload(self, name: str, *, back: bool = False) -> None:
        with self.database.writing() as session:
            model = models.find(session, name)
            (variants.load if back else variants.unload)(variants.find(session, model, "original"))

    def reconciler(self, *pinned: str) -> Reconciler:
        return Reconciler(self.database, self.pool, self.statistics, pinned)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.pool.close()
    house.database.close()


def test_what_is_wanted_stays(house: House) -> None:
    house.pool.load(house.artifact)
    house.reconciler().look()
    assert house.pool.is_loaded(house.artifact)


def test_what_was_unloaded_leaves(house: House) -> None:
    house.pool.load(house.artifact)
    house.unload("linear")
    house.reconciler().look()
    assert not house.pool.is_loaded(house.artifact)


def test_what_was_deleted_leaves(house: House) -> None:
    house.pool.load(house.artifact)
    with house.database.writing() as session:
        models.delete(session, "linear")
    house.reconciler().look()
    assert not house.pool.is_loaded(house.artifact)


def test_an_artifact_of_two_models_leaves_with_the_last(house: House) -> None:
    house.add("twin", house.artifact)
    house.pool.load(house.artifact)
    for name, stays in (("linear", True), ("twin", False)):
        house.unload(name)
        house.reconciler().look()
        assert house.pool.is_loaded(house.artifact) is stays


def test_what_was_counted_of_a_deleted_model_is_not_of_the_next_of_its_name(house: House) -> None:
    house.add("other", house.artifact)
    for name in ("linear", "other"):
        house.statistics.record_failure((name, 1), 1000)
    house.reconciler().forget_counts()
    assert house.statistics.keys() == {("linear", 1), ("other", 1)}
    with house.database.writing() as session:
        models.delete(session, "linear")
    house.reconciler().forget_counts()
    assert house.statistics.keys() == {("other", 1)}


def test_what_is_pinned_is_loaded_without_a_request(house: House) -> None:
    house.reconciler("nothing-yet", "linear").look()
    while not house.pool.is_loaded(house.artifact):
        pass


def test_what_is_pinned_is_asked_for_once_and_again_when_it_may_be_loaded_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Artifact] = []
    monkeypatch.setattr(house.pool, "preload", asked.append)
    reconciler = house.reconciler("linear@original")
    reconciler.look()
    reconciler.look()
    assert asked == [house.artifact]
    house.unload("linear")
    reconciler.look()
    assert asked == [house.artifact]
    house.unload("linear", back=True)
    reconciler.look()
    assert asked == [house.artifact] * 2


def test_the_thread_follows_by_itself(house: House) -> None:
    house.pool.load(house.artifact)
    reconciler = house.reconciler()
    reconciler.start()
    house.unload("linear")
    while house.pool.is_loaded(house.artifact):
        pass
    reconciler.stop()
