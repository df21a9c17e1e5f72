from collections.abc import Iterator
from pathlib import Path

import pytest

from app.experiments.assignment import Place
from app.experiments.counts import Counts
from app.experiments.recorder import Pair, Recorder
from app.registry import Database, OperationalError, experiments, models, records
from app.registry.records import LabelSum, NewOutcome
from tests import registries
from tests.app.registry.conftest import new_revision
from tests.app.registry.test_experiments import add_variant, new

ARMS = ("original", "int8")


class House:
    """A registry with an experiment, and as many processes as a test makes."""

    def __init__(self, folder: Path) -> None:
        url = f"sqlite:///{folder / 'registry.sqlite3'}"
        registries.migrate(url)
        self.database = Database(url)
        with self.database.writing() as session:
            revision, _ = models.register(session, "resnet", new_revision())
            add_variant(session, revision, "int8")
            self.id = experiments.create(session, revision.model, new()).id

    def total(self) -> Counts:
        total = Counts(ARMS)
        with self.database.reading() as session:
            for each in records.counts_of(session, self.id):
                total.merge(Counts.from_json(each))
        return total


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.database.close()


def place(number: int, variant: str = "int8") -> Place:
    return Place(variant, number % 256, number)


def test_what_processes_counted_adds_up_and_is_written_once(house: House) -> None:
    first, second = Recorder(house.database), Recorder(house.database)
    for number in range(10):
        first.answered(house.id, ARMS, place(number), 1000, f"r{number}")
    first.flush()
    first.failed(house.id, ARMS, place(10), "r10")
    second.answered(house.id, ARMS, place(11, "original"), 1000, "r11")
    for recorder in (first, second, first):
        recorder.flush()
    total = house.total()
    assert (total.requests("int8"), total.failures("int8"), total.requests("original")) == (11, 1, 1)
    assert total.unit_count("int8") == 11
    with house.database.reading() as session:
        assert records.answered_in(session, ["r0", "r10", "r11", "other"]) == {
            name: [house.id] for name in ("r0", "r10", "r11")
        }


def test_pairs_are_counted(house: House) -> None:
    recorder = Recorder(house.database)
    recorder.paired(house.id, ARMS, "mixed", Pair(200, 100, agree=False, cosine=0.5, max_abs_difference=2.0), "r1")
    recorder.flush()
    pairs = house.total().pairs["mixed"]
    assert (pairs.count, pairs.disagreements, pairs.max_abs_difference) == (1, 1, 2.0)


def test_what_a_pair_answered_is_kept_for_its_label(house: House) -> None:
    recorders = Recorder(house.database), Recorder(house.database)
    with house.database.writing() as session:
        labels = [NewOutcome("label", 5.0, request_id=f"r{number}") for number in range(4)]
        records.add_outcomes(session, house.id, labels)
    for number, classes in enumerate([(5, 5), (5, 1), (1, 5), None]):
        pair = Pair(200, 100, agree=None, cosine=None, max_abs_difference=0.0, classes=classes)
        recorders[number % 2].paired(house.id, ARMS, "mixed", pair, f"r{number}")
    for recorder in recorders:
        recorder.flush()
    with house.database.reading() as session:
        assert records.label_sums(session, house.id) == [LabelSum("mixed", 3, 1, 1)]


def test_what_cannot_be_written_is_written_later(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(house.database)
    recorder.answered(house.id, ARMS, place(1), 1000, "r1")
    pair = Pair(200, 100, agree=True, cosine=None, max_abs_difference=0.0, classes=(1, 1))
    recorder.paired(house.id, ARMS, "mixed", pair, "r3")
    with monkeypatch.context() as broken:

        def fail(*_: object) -> None:
            raise OSError("no space left")

        broken.setattr(records, "save_counts", fail)
        with pytest.raises(OSError, match="no space"):
            recorder.flush()
    recorder.answered(house.id, ARMS, place(2), 1000, "r2")
    recorder.flush()
    assert house.total().requests("int8") == 2
    with house.database.reading() as session:
        assert set(records.answered_in(session, ["r1", "r2", "r3"])) == {"r1", "r2", "r3"}


def test_what_was_counted_of_a_deleted_experiment_is_dropped(house: House) -> None:
    recorder = Recorder(house.database)
    recorder.answered("0" * 32, ARMS, place(1), 1000, "r1")
    recorder.answered(house.id, ARMS, place(1), 1000, "r1")
    recorder.flush()
    assert house.total().requests("int8") == 1


def test_the_thread_writes_by_itself_and_what_is_left_at_the_end(house: House) -> None:
    recorder = Recorder(house.database)
    recorder.start()
    recorder.answered(house.id, ARMS, place(1), 1000, "r1")
    while not house.total().requests("int8"):
        pass
    recorder.answered(house.id, ARMS, place(2), 1000, "r2")
    recorder.stop()
    assert house.total().requests("int8") == 2


def test_an_experiment_that_rested_leaves_memory_and_goes_on_where_it_was(house: House) -> None:
    at = 0.0
    recorder = Recorder(house.database, clock=lambda: at)
    recorder.answered(house.id, ARMS, place(1), 1000, "r1")
    recorder.flush()
    at += 3600
    recorder.answered("another", ARMS, place(1), 1000, "r2")
    recorder.flush()
    assert house.id not in recorder._total
    recorder.answered(house.id, ARMS, place(2), 1000, "r3")
    recorder.flush()
    total = house.total()
    assert (total.requests("int8"), total.unit_count("int8")) == (2, 2)


def test_what_was_counted_while_the_registry_was_away_is_counted_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise OperationalError("SELECT", {}, OSError("refused"))

    recorder = Recorder(house.database)
    for number, what in enumerate(("kept_counts", "save_counts")):
        recorder.answered(house.id, ARMS, place(2 * number), 1000, f"r{2 * number}")
        with monkeypatch.context() as patched:
            patched.setattr(records, what, away)
            with pytest.raises(OperationalError):
                recorder.flush()
        recorder.answered(house.id, ARMS, place(2 * number + 1), 1000, f"r{2 * number + 1}")
        recorder.flush()
        assert house.total().requests("int8") == 2 * number + 2
        recorder._total.clear()
