"""Rows become sums, and results stay as they were; on both databases."""

import threading
from datetime import timedelta

import pytest

from app.experiments import retention as room
from app.experiments.results import findings, results
from app.experiments.retention import Retention
from app.registry import Database, experiments, records
from app.registry.records import NewExposure, NewOutcome, NewPairedAnswer
from app.registry.tables import Experiment, Exposure, Outcome, PairedAnswer, now
from tests.app.experiments.test_results import UNITS, started  # noqa: F401 - a fixture
from tests.app.live_experiment import SPLIT, keep_counts

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_BATCH", 7)
    monkeypatch.setattr(room, "_UNITS_BATCH", 50)
    monkeypatch.setattr(room, "_PAUSE_S", 0.0)
    monkeypatch.setattr(room, "_GRACE", timedelta(0))


def keep_requests(database: Database, experiment_id: str, count: int, *, hours_ago: float, name: str = "r") -> None:
    """Requests of both arms, each answered by a shadow too; of two in three an outcome and a label are known."""
    at = now() - hours_ago * HOUR
    numbers = range(count)
    variants = ["original" if number % 2 else "int8" for number in numbers]
    with database.writing() as session:
        exposures = [NewExposure(f"{name}{n}", variants[n], n % 256, n, at) for n in numbers]
        records.add_exposures(session, experiment_id, exposures)
        answers = [
            NewPairedAnswer(f"{name}{n}", shadow, n % 3, n % divisor, at)
            for n in numbers
            for shadow, divisor in (("int8", 4), ("mixed", 5))
        ]
        records.add_paired_answers(session, experiment_id, answers)
        known = [n for n in numbers if n % 3]
        reported = [NewOutcome("clicked", float(n % 2), request_id=f"{name}{n}") for n in known]
        reported += [NewOutcome("label", float(n % 3), request_id=f"{name}{n}") for n in known]
        records.add_outcomes(session, experiment_id, reported)
        session.query(Outcome).filter(Outcome.reference.startswith(f"request:{name}")).update({"at": at})


def rows(database: Database, table: type[Exposure] | type[PairedAnswer] | type[Outcome]) -> int:
    with database.reading() as session:
        return session.query(table).count()


def shown(database: Database, experiment_id: str) -> dict[str, object]:
    with database.reading() as session:
        return results(session, experiments.find(session, experiment_id))


def clean(*retentions: Retention) -> None:
    while sum(each.look() for each in retentions):
        pass


def end(database: Database, experiment_id: str, *, days_ago: float) -> None:
    with database.writing() as session:
        experiments.stop(session, experiment_id)
        found = session.get(Experiment, experiment_id)
        assert found is not None
        found.ended_at = now() - timedelta(days=days_ago)


def test_requests_that_are_old_are_kept_as_sums(database: Database, started: str) -> None:  # noqa: F811
    keep_counts(database, started, 300)
    keep_requests(database, started, 40, hours_ago=80, name="old")
    keep_requests(database, started, 10, hours_ago=1, name="new")
    before = shown(database, started)
    clean(Retention(database, outcome_hours=72, outcome_days=30))
    assert (rows(database, Exposure), rows(database, PairedAnswer)) == (10, 20)
    assert rows(database, Outcome) == 12
    assert shown(database, started) == before
    with database.reading() as session:
        shadows = {each.variant: each.pairs for each in findings(session, experiments.find(session, started)).evidence}
    assert shadows["mixed"].labelled == 26 + 6


def test_what_is_reported_too_late_or_again_does_not_count(database: Database, started: str) -> None:  # noqa: F811
    keep_requests(database, started, 20, hours_ago=80)
    clean(Retention(database, outcome_hours=72, outcome_days=30))
    before = shown(database, started)
    with database.writing() as session:
        again = [NewOutcome(metric, 1.0, request_id=f"r{n}") for n in range(20) for metric in ("clicked", "label")]
        records.add_outcomes(session, started, again)
    assert shown(database, started) == before


def test_what_was_reported_of_requests_that_nobody_answered_goes(database: Database, started: str) -> None:  # noqa: F811
    with database.writing() as session:
        records.add_outcomes(session, started, [NewOutcome("clicked", 1.0, request_id=f"r{n}") for n in range(20)])
        records.add_outcomes(session, started, [NewOutcome("clicked", 1.0, unit="u1")])
    kept = Retention(database, outcome_hours=1, outcome_days=30)
    clean(kept)
    assert rows(database, Outcome) == 21
    with database.writing() as session:
        session.query(Outcome).update({"at": now() - 2 * HOUR})
    clean(kept)
    # What is reported of units stays, since it must not be counted when it is reported again.
    assert rows(database, Outcome) == 1


def test_an_experiment_that_has_long_ended_reads_the_same_without_rows(
    database: Database,
    started: str,  # noqa: F811
) -> None:
    counts = keep_counts(database, started, 300)
    keep_requests(database, started, 30, hours_ago=1)
    with database.writing() as session:
        reported = [NewOutcome("revenue", float(len(unit)), unit=unit) for unit in UNITS]
        records.add_outcomes(session, started, [*reported, NewOutcome("clicked", 1.0, request_id="stray")])
        records.save_counts(session, started, "two", counts.to_json())
    before = shown(database, started)
    kept = Retention(database, outcome_hours=72, outcome_days=30)
    end(database, started, days_ago=29)
    clean(kept)
    assert rows(database, Outcome) > len(UNITS)
    with database.writing() as session:
        found = session.get(Experiment, started)
        assert found is not None
        found.ended_at = now() - timedelta(days=31)
    for _ in range(2):
        clean(kept)
    assert [rows(database, table) for table in (Exposure, PairedAnswer, Outcome)] == [0, 0, 0]
    assert shown(database, started) == before
    with database.writing() as session:
        assert len(records.counts_of(session, started)) == 1
        assert experiments.find(session, started).closed_at is not None
        # Whoever counts on does not count twice.
        assert not records.save_counts(session, started, "two", {})
        records.add_exposures(session, started, [NewExposure("r1", "int8", 1, 1, now())])
    assert rows(database, Exposure) == 0


def test_results_are_whole_after_each_batch(database: Database, started: str) -> None:  # noqa: F811
    keep_counts(database, started, 300)
    keep_requests(database, started, 30, hours_ago=1)
    with database.writing() as session:
        records.add_outcomes(session, started, [NewOutcome("revenue", 2.0, unit=unit) for unit in UNITS])
    end(database, started, days_ago=31)
    before = shown(database, started)
    kept = Retention(database, outcome_hours=72, outcome_days=30)
    for _ in range(40):
        kept.look()
        assert shown(database, started) == before
    assert rows(database, Outcome) == 0


def test_several_gateways_add_up_each_row_once(database: Database, started: str) -> None:  # noqa: F811
    keep_counts(database, started, 300)
    keep_requests(database, started, 200, hours_ago=80)
    before = shown(database, started)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            clean(Retention(database, outcome_hours=72, outcome_days=30))
        except BaseException as error:  # noqa: BLE001 - told below
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    clean(Retention(database, outcome_hours=72, outcome_days=30))
    assert rows(database, Exposure) == 0
    assert shown(database, started) == before


def test_the_thread_goes_on_until_nothing_is_left(database: Database, started: str) -> None:  # noqa: F811
    keep_requests(database, started, 50, hours_ago=80)
    kept = Retention(database, outcome_hours=72, outcome_days=30)
    kept.start()
    while rows(database, Exposure) or rows(database, PairedAnswer):
        pass
    kept.stop()


def test_units_are_those_of_the_split(database: Database, started: str) -> None:  # noqa: F811
    """What the other tests compare is not nothing."""
    keep_counts(database, started, 300)
    with database.writing() as session:
        records.add_outcomes(session, started, [NewOutcome("revenue", 2.0, unit=unit) for unit in UNITS])
    end(database, started, days_ago=31)
    for _ in range(2):
        clean(Retention(database, outcome_hours=72, outcome_days=30))
    with database.reading() as session:
        found = findings(session, experiments.find(session, started))
    counts = {each.variant: each.outcomes["revenue"].denominator for each in found.evidence}
    arms = [SPLIT.arm(unit) for unit in UNITS[:300]]
    assert counts == {variant: arms.count(variant) for variant in ("original", "int8")}
