import threading
from collections.abc import Callable

import pytest

from app.errors import Conflict, Invalid, PreconditionFailed, Rejected, UnknownExperiment, UnknownVariant
from app.registry import Database, Session, experiments, models, records, variants
from app.registry.experiments import Key, NewExperiment
from app.registry.records import NewExposure, NewOutcome
from app.registry.tables import Experiment, Revision, Variant, now
from tests.app.registry.conftest import new_revision

ARMS = [{"variant": "original", "weight": 50, "control": True}, {"variant": "int8", "weight": 50, "control": False}]


def new(**changes: object) -> NewExperiment:
    wanted: dict[str, object] = {
        "name": "int8-live",
        "seed": "a seed",
        "unit": {"from": ["header:X-Unit-Id"], "on_missing": "control"},
        "arms": ARMS,
        "coverage": 1.0,
        "shadow": [],
        "ramp": None,
        "guardrails": [],
        "alpha": 0.05,
        "auto_rollback": True,
    }
    return NewExperiment(**(wanted | changes))  # type: ignore[arg-type]


def add_variant(session: Session, revision: Revision, label: str, **changes: object) -> Variant:
    model = models.find(session, "resnet")
    facts: dict[str, object] = {"method": "int8", "options": {}, "state": "ready", "engine": "onnxruntime"}
    facts |= {"digest": label.ljust(64, "0"), "size_bytes": 10} | changes
    variant = Variant(
        model_id=model.id, revision_id=revision.id, label=label, version=models.take_version(session, model), **facts
    )
    session.add(variant)
    session.flush()
    return variant


@pytest.fixture
def create(database: Database, revision: Revision) -> Callable[..., str]:
    """Makes a draft on `resnet`, whose variants are `original` and `int8`; returns its id."""
    with database.writing() as session:
        add_variant(session, revision, "int8")

    def created(**changes: object) -> str:
        with database.writing() as session:
            return experiments.create(session, models.find(session, "resnet"), new(**changes)).id

    return created


@pytest.fixture
def started(database: Database, create: Callable[..., str]) -> str:
    """The id of one that is running."""
    experiment_id = create()
    with database.writing() as session:
        experiments.start(session, experiment_id)
    return experiment_id


def kinds(database: Database, experiment_id: str) -> list[str]:
    with database.reading() as session:
        return [event.kind for event in experiments.events_after(session, experiment_id)]


def find(database: Database, experiment_id: str) -> Experiment:
    with database.reading() as session:
        return experiments.find(session, experiment_id)


def test_an_experiment_goes_from_draft_to_its_end(database: Database, create: Callable[..., str]) -> None:
    experiment_id = create()
    for change, state in (
        (experiments.start, "running"),
        (experiments.pause, "paused"),
        (experiments.start, "running"),
        (experiments.stop, "stopped"),
    ):
        with database.writing() as session:
            assert change(session, experiment_id).state == state  # type: ignore[operator]
        with database.reading() as session:
            running = experiments.running_of(session, models.find(session, "resnet"))
            assert (running is not None) == (state == "running")
    assert kinds(database, experiment_id) == ["created", "started", "paused", "resumed", "stopped"]
    ended = find(database, experiment_id)
    assert ended.etag == 5
    assert ended.started_at is not None
    assert ended.ended_at is not None
    for change in (experiments.start, experiments.pause, experiments.stop):
        with database.writing() as session, pytest.raises(Conflict, match="is stopped"):
            change(session, experiment_id)  # type: ignore[operator]


def test_its_variants_are_of_the_newest_revision_that_has_them_all(
    database: Database, create: Callable[..., str]
) -> None:
    with database.writing() as session:
        models.register(session, "resnet", new_revision())
    found = find(database, create(shadow=[{"variant": "int8", "sample": 0.5}]))
    assert found.revision.number == 1
    assert [(each["variant"], each["version"], each["stopped"]) for each in found.arms] == [
        ("original", 1, False),
        ("int8", 2, False),
    ]
    assert found.shadow == [{"variant": "int8", "version": 2, "sample": 0.5}]
    with pytest.raises(Invalid, match="original' is of revision 2"):
        create(arms=[{**ARMS[0], "variant": "3"}, ARMS[1]])
    with pytest.raises(UnknownVariant):
        create(arms=[ARMS[0], {**ARMS[1], "variant": "fp16"}])
    with pytest.raises(Invalid, match="of its own"):
        create(arms=[ARMS[1], {**ARMS[1], "variant": "2"}])


def test_a_rejected_variant_is_no_arm_unless_overridden(
    database: Database, revision: Revision, create: Callable[..., str]
) -> None:
    with database.writing() as session:
        add_variant(session, revision, "bad", verdict="rejected", reasons=["too far off"])
    arms = [ARMS[0], {**ARMS[1], "variant": "bad"}]
    with pytest.raises(Rejected, match="too far off"):
        create(arms=arms)
    with database.writing() as session:
        variants.override(variants.find(session, models.find(session, "resnet"), "bad"))
    experiment_id = create(arms=arms)
    with database.writing() as session:
        experiments.start(session, experiment_id)
    with database.writing() as session:
        model = models.find(session, "resnet")
        variant = variants.find(session, model, "bad")
        with pytest.raises(Conflict, match="take the override back"):
            variants.take_back_override(session, model, variant)


def test_a_variant_that_was_unloaded_does_not_start(database: Database, create: Callable[..., str]) -> None:
    experiment_id = create()
    with database.writing() as session:
        variants.unload(variants.find(session, models.find(session, "resnet"), "int8"))
    with database.writing() as session, pytest.raises(Conflict, match="resnet@int8/load"):
        experiments.start(session, experiment_id)


def test_of_experiments_started_at_once_one_runs(database: Database, create: Callable[..., str]) -> None:
    ids = [create(name=f"number-{number}") for number in range(4)]
    refused: list[str] = []
    begin = threading.Barrier(len(ids))

    def run(experiment_id: str) -> None:
        begin.wait()
        try:
            with database.writing() as session:
                experiments.start(session, experiment_id)
        except Conflict as error:
            refused.append(error.detail)

    threads = [threading.Thread(target=run, args=(each,)) for each in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (running,) = [each for each in ids if find(database, each).state == "running"]
    assert len(refused) == 3
    assert all(running in words and "start another" in words for words in refused)


def test_what_is_in_a_live_experiment_is_not_deleted(database: Database, started: str) -> None:
    def delete_variant(session: Session) -> None:
        model = models.find(session, "resnet")
        variants.delete(session, model, variants.find(session, model, "int8"))

    for delete in (delete_variant, lambda session: models.delete(session, "resnet")):
        with database.writing() as session, pytest.raises(Conflict, match=started):
            delete(session)
    with database.writing() as session:
        experiments.pause(session, started)
    with database.writing() as session, pytest.raises(Conflict, match="is paused"):
        delete_variant(session)
    with database.writing() as session:
        experiments.stop(session, started)
        delete_variant(session)
    with database.writing() as session:
        models.delete(session, "resnet")
    with database.reading() as session, pytest.raises(UnknownExperiment):
        experiments.find(session, started)


def test_one_of_several_processes_rolls_an_arm_back(
    database: Database, revision: Revision, create: Callable[..., str]
) -> None:
    with database.writing() as session:
        add_variant(session, revision, "mixed")
    experiment_id = create(arms=[*ARMS, {"variant": "mixed", "weight": 0, "control": False}])
    with database.writing() as session:
        experiments.start(session, experiment_id)
    for _ in range(3):
        with database.writing() as session:
            found = experiments.rollback(
                session, experiment_id, "int8", "errors", by="guardrail", evidence={"low": 0.1}
            )
            assert found.state == "running"
    assert kinds(database, experiment_id) == ["created", "started", "rolled_back"]
    with database.reading() as session:
        detail = experiments.events_after(session, experiment_id)[-1].detail
    assert detail == {
        "state": "running",
        "by": "guardrail",
        "variants": ["int8"],
        "reason": "errors",
        "evidence": {"low": 0.1},
    }
    for variant in ("original", "fp16"):
        with database.writing() as session, pytest.raises(Invalid):
            experiments.rollback(session, experiment_id, variant, "why not")
    with database.writing() as session, pytest.raises(Conflict, match="timeline"):
        experiments.promote(session, experiment_id, "int8")
    with database.writing() as session:
        assert experiments.rollback(session, experiment_id, None, "all of it").state == "rolled_back"
    with database.writing() as session:
        assert experiments.rollback(session, experiment_id, "mixed", "again").state == "rolled_back"
    assert kinds(database, experiment_id).count("rolled_back") == 2


def test_promoting_changes_the_default_and_ends_it_in_one(database: Database, started: str) -> None:
    with database.writing() as session, pytest.raises(Conflict, match="no trust"):
        experiments.promote(session, started, "int8", refusal="no trust")
    with database.writing() as session, pytest.raises(Invalid, match="no arm"):
        experiments.promote(session, started, "fp16")
    with database.reading() as session:
        assert variants.default_of(session, models.find(session, "resnet")).label == "original"
    with database.writing() as session:
        assert experiments.promote(session, started, "2").state == "promoted"
    with database.reading() as session:
        assert variants.default_of(session, models.find(session, "resnet")).label == "int8"
    with database.writing() as session, pytest.raises(Conflict, match="is promoted"):
        experiments.promote(session, started, "original")


def test_a_variant_that_was_rejected_meanwhile_is_not_promoted(database: Database, started: str) -> None:
    with database.writing() as session:
        variant = variants.find(session, models.find(session, "resnet"), "int8")
        variant.verdict, variant.reasons = "rejected", ["measured again"]
    with database.writing() as session, pytest.raises(Rejected, match="measured again"):
        experiments.promote(session, started, "int8")
    assert find(database, started).state == "running"


def test_a_key_makes_one_change(database: Database, create: Callable[..., str]) -> None:
    experiment_id = create()
    for _ in range(3):
        with database.writing() as session:
            experiments.start(session, experiment_id, key=Key("k", "start"))
    with database.writing() as session:
        experiments.pause(session, experiment_id, key=Key("l", "pause"))
    with database.writing() as session:
        assert experiments.start(session, experiment_id, key=Key("k", "start")).state == "paused"
    with database.writing() as session, pytest.raises(Invalid, match="different request"):
        experiments.stop(session, experiment_id, key=Key("k", "stop"))
    assert kinds(database, experiment_id) == ["created", "started", "paused"]


def test_of_changes_of_one_state_one_is_made(database: Database, started: str) -> None:
    etag = find(database, started).etag
    with database.writing() as session:
        changed = experiments.change(session, started, etag=etag, weights={"int8": 10}, coverage=0.5)
        assert [each["weight"] for each in changed.arms] == [50, 10]
    with database.writing() as session, pytest.raises(PreconditionFailed, match=f'"{etag + 1}"'):
        experiments.change(session, started, etag=etag, coverage=0.6)
    with database.reading() as session:
        assert experiments.weights_changed(session, started)
        assert experiments.events_after(session, started)[-1].detail == {
            "state": "running",
            "by": "request",
            "weights": {"from": {"original": 50, "int8": 50}, "to": {"int8": 10}},
            "coverage": {"from": 1.0, "to": 0.5},
        }


def test_weights_of_a_draft_may_change_without_consequence(database: Database, create: Callable[..., str]) -> None:
    experiment_id = create()
    with database.writing() as session:
        experiments.change(session, experiment_id, etag=1, weights={"int8": 10})
        experiments.start(session, experiment_id)
    with database.reading() as session:
        assert not experiments.weights_changed(session, experiment_id)


def test_one_of_several_processes_takes_a_step_of_the_ramp(database: Database, create: Callable[..., str]) -> None:
    ramp = {"steps": [0.01, 0.1, 0.5], "hold_s": 1, "min_units": 1}
    experiment_id = create(ramp=ramp, coverage=0.05)
    with database.writing() as session:
        assert not experiments.ramp(session, experiment_id, step=2)
        assert experiments.start(session, experiment_id).step == 1
    for step, taken in ((2, True), (2, False), (4, False), (3, True), (4, False)):
        with database.writing() as session:
            assert experiments.ramp(session, experiment_id, step=step) is taken
    found = find(database, experiment_id)
    assert (found.coverage, found.step) == (0.5, 3)
    assert kinds(database, experiment_id).count("ramped") == 2


def test_counts_of_a_process_replace_what_it_had(database: Database, started: str) -> None:
    for process, count in (("a", 1), ("b", 5), ("a", 2)):
        with database.writing() as session:
            assert records.save_counts(session, started, process, {"count": count})
    with database.writing() as session:
        assert records.counts_of(session, started) == [{"count": 2}, {"count": 5}]
        assert not records.save_counts(session, "0" * 32, "a", {})


def exposure(request_id: str, variant: str = "int8", bucket: int = 3) -> NewExposure:
    return NewExposure(request_id, variant, bucket, 2**63 - 1, now())


def test_outcomes_are_kept_once_and_may_come_before_exposures(database: Database, started: str) -> None:
    reported = [
        NewOutcome("clicked", 1.0, request_id="r1"),
        NewOutcome("clicked", 0.0, request_id="r2"),
        NewOutcome("clicked", 1.0, unit="u1"),
        NewOutcome("revenue", 9.5, unit="u1"),
    ]
    with database.writing() as session:
        assert records.add_outcomes(session, started, reported) == 4
    with database.reading() as session:
        assert records.outcome_sums(session, started) == []
        assert sorted(records.unit_outcomes(session, started)) == [("u1", "clicked", 1.0), ("u1", "revenue", 9.5)]
    with database.writing() as session:
        again = [NewOutcome("clicked", 0.5, unit="u1"), NewOutcome("clicked", 1.0, unit="u2")]
        assert records.add_outcomes(session, started, [*reported, *again]) == 1
    for _ in range(2):
        with database.writing() as session:
            rows = [exposure("r1"), exposure("r2"), exposure("r3"), exposure("r4\0" + "x" * 1000)]
            records.add_exposures(session, started, rows)
    with database.reading() as session:
        (found,) = records.outcome_sums(session, started)
        assert found == records.OutcomeSum("int8", 3, "clicked", 2, 1.0, 0.0, 1.0)
        long = "r4\0" + "x" * 1000
        assert records.answered_in(session, ["r1", long, "r5"]) == {"r1": [started], long: [started]}


def test_exposures_of_what_is_gone_are_not_kept(database: Database) -> None:
    with database.writing() as session:
        records.add_exposures(session, "0" * 32, [exposure("r1")])
        records.add_exposures(session, "0" * 32, [])
    with database.reading() as session:
        assert records.answered_in(session, ["r1"]) == {}
