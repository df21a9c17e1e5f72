import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app import custom_operators
from app.contracts import methods
from app.contracts.figures import Figures, LayerFigures
from app.contracts.outcome import Outcome, SequenceAxes
from app.errors import Conflict, Invalid, LeaseLost, NotFound, NotQuantizable, UnknownJob
from app.registry import Database, comparison, datasets, jobs, models, variants
from app.registry.jobs import Lease
from app.registry.references import is_referenced
from app.registry.results import NewArtifact
from app.registry.tables import Job, Revision
from tests.app.registry.conftest import new_revision

Submit = Callable[..., Job]

ARTIFACT = NewArtifact(digest="a" * 64, data_digest=None, data_name=None, size_bytes=250)
OUTCOME = Outcome(
    artifact="variant.onnx",
    engine="onnxruntime",
    verdict="accepted",
    samples=10,
    original=Figures(accuracy=0.9, latency_p50_ms=2.0, latency_p95_ms=2.5, latency_p99_ms=3.0),
    variant=Figures(accuracy=0.88, accuracy_ratio=0.978, speedup=2.0),
    layers=[LayerFigures(name="y", operator="Gemm", sqnr_db=31.5)],
    report={"machine": {"cores": 2}, "notes": []},
)


def claimed(database: Database, submit: Submit) -> Lease:
    with database.writing() as session:
        job_id = submit(session).id
    with database.writing() as session:
        lease = jobs.claim(session, job_id)
    assert lease is not None
    return lease


def state_of(database: Database, job_id: str) -> str | None:
    with database.reading() as session:
        return jobs.state_of(session, job_id)


def expired(database: Database, *, max_attempts: int = 3) -> list[str]:
    """What is taken from workers that all went silent."""
    with database.reading() as session:
        silent = jobs.heartbeats(session)
    with database.writing() as session:
        return jobs.expire(session, silent, max_attempts=max_attempts)


def test_of_many_workers_one_gets_the_job(database: Database, submit: Submit) -> None:
    with database.writing() as session:
        job_id = submit(session).id
    barrier = threading.Barrier(8)

    def claim() -> Lease | None:
        barrier.wait()
        with database.writing() as session:
            return jobs.claim(session, job_id)

    with ThreadPoolExecutor(8) as pool:
        leases = [future.result() for future in [pool.submit(claim) for _ in range(8)]]
    assert sum(lease is not None for lease in leases) == 1


def test_success_publishes_variant_evaluations_and_end_together(database: Database, submit: Submit) -> None:
    lease = claimed(database, submit)
    with database.writing() as session:
        jobs.succeed(session, lease, ARTIFACT, OUTCOME)
    with database.reading() as session:
        job = jobs.find(session, lease.job_id)
        assert (job.state, job.progress, job.lease_token) == ("succeeded", 1.0, None)
        variant = variants.find(session, job.model, "dynamic")
        assert job.variant == variant
        assert variant.version == 2
        assert variant.evaluation is not None
        assert variant.evaluation.speedup == 2.0
        assert [layer.sqnr_db for layer in variant.evaluation.layers] == [31.5]
        original = variants.find(session, job.model, "original")
        assert original.evaluation is not None
        assert original.evaluation.accuracy == 0.9
        assert original.evaluation.report == {"machine": {"cores": 2}}


def test_a_worker_whose_lease_was_taken_can_change_nothing(database: Database, submit: Submit) -> None:
    lease = claimed(database, submit)
    assert expired(database) == [lease.job_id]
    with database.writing() as session:
        assert jobs.claim(session, lease.job_id) is not None
    for change in (
        lambda session: jobs.renew(session, lease),
        lambda session: jobs.keep_checkpoint(session, lease, "b" * 64),
        lambda session: jobs.succeed(session, lease, ARTIFACT, OUTCOME),
        lambda session: jobs.fail(session, lease, "no"),
        lambda session: jobs.cancelled(session, lease),
    ):
        with pytest.raises(LeaseLost), database.writing() as session:
            change(session)
    with database.writing() as session:
        jobs.release(session, lease)
        job = jobs.find(session, lease.job_id)
        assert (job.state, job.attempts) == ("running", 2)
        assert [row.label for row in variants.listed(session, job.model)] == ["original"]


def test_an_expired_lease_is_retried_three_times_and_then_failed_with_the_reason(
    database: Database, submit: Submit
) -> None:
    lease = claimed(database, submit)
    for attempt in (1, 2, 3):
        assert expired(database) == [lease.job_id]
        assert state_of(database, lease.job_id) == ("queued" if attempt < 3 else "failed")
        with database.writing() as session:
            jobs.claim(session, lease.job_id)
    with database.reading() as session:
        job = jobs.find(session, lease.job_id)
        assert job.error is not None
        assert "3 attempts" in job.error
        assert job.finished_at is not None


def test_a_worker_that_was_heard_of_since_keeps_its_job(database: Database, submit: Submit) -> None:
    lease = claimed(database, submit)
    with database.reading() as session:
        silent = jobs.heartbeats(session)
    with database.writing() as session:
        jobs.renew(session, lease)
    with database.writing() as session:
        assert jobs.expire(session, silent, max_attempts=3) == []
        assert jobs.heartbeats(session) != silent


def test_a_job_given_back_is_queued_again_and_the_attempt_does_not_count(database: Database, submit: Submit) -> None:
    lease = claimed(database, submit)
    with database.writing() as session:
        jobs.release(session, lease)
    with database.reading() as session:
        job = jobs.find(session, lease.job_id)
        assert (job.state, job.attempts) == ("queued", 0)
        assert jobs.unannounced(session) == [lease.job_id]


def test_a_queued_job_is_cancelled_at_once(database: Database, submit: Submit) -> None:
    with database.writing() as session:
        job_id = submit(session).id
    with database.writing() as session:
        jobs.request_cancel(session, job_id)
    assert state_of(database, job_id) == "cancelled"
    with database.writing() as session:
        assert jobs.claim(session, job_id) is None


def test_a_running_job_learns_of_its_cancellation_and_publishes_nothing(database: Database, submit: Submit) -> None:
    lease = claimed(database, submit)
    with database.writing() as session:
        assert not jobs.renew(session, lease)
        jobs.request_cancel(session, lease.job_id)
    with database.writing() as session:
        assert jobs.renew(session, lease)
    with pytest.raises(LeaseLost), database.writing() as session:
        jobs.succeed(session, lease, ARTIFACT, OUTCOME)
    with database.writing() as session:
        jobs.cancelled(session, lease)
    assert state_of(database, lease.job_id) == "cancelled"


def test_an_ended_job_cannot_be_cancelled(database: Database, submit: Submit) -> None:
    lease = claimed(database, submit)
    with database.writing() as session:
        jobs.fail(session, lease, "it broke")
    with pytest.raises(Conflict, match="has failed"), database.writing() as session:
        jobs.request_cancel(session, lease.job_id)


def test_each_change_is_an_event_in_order(database: Database, submit: Submit) -> None:
    lease = claimed(database, submit)
    with database.writing() as session:
        jobs.renew(session, lease, stage="calibrate", progress=0.5)
        jobs.renew(session, lease)
    with database.writing() as session:
        jobs.succeed(session, lease, ARTIFACT, OUTCOME)
    with database.reading() as session:
        events = jobs.events_after(session, lease.job_id, 0)
        assert [(event.state, event.stage) for event in events] == [
            ("queued", "queued"),
            ("running", "starting"),
            ("running", "calibrate"),
            ("succeeded", "done"),
        ]
        assert jobs.events_after(session, lease.job_id, events[2].id) == events[3:]


def test_a_detail_is_kept_with_the_job_and_its_events_until_the_job_is_queued_again(
    database: Database, submit: Submit
) -> None:
    lease = claimed(database, submit)
    detail = {"text": "epoch 3/20 · loss 0.021", "epoch": 3}
    with database.writing() as session:
        jobs.renew(session, lease, stage="quantize", progress=0.5, detail=detail)
        jobs.renew(session, lease)
    with database.reading() as session:
        assert jobs.find(session, lease.job_id).detail == detail
        assert [event.detail for event in jobs.events_after(session, lease.job_id, 0)] == [None, None, detail]
    with database.writing() as session:
        jobs.release(session, lease)
    with database.reading() as session:
        assert jobs.find(session, lease.job_id).detail is None
        assert jobs.events_after(session, lease.job_id, 0)[-1].detail is None


def test_an_expired_job_starts_without_the_detail_of_the_attempt_before(database: Database, submit: Submit) -> None:
    lease = claimed(database, submit)
    with database.writing() as session:
        jobs.renew(session, lease, stage="quantize", detail={"text": "trial 7"})
    expired(database)
    with database.reading() as session:
        assert jobs.find(session, lease.job_id).detail is None


def test_a_job_that_ends_keeps_the_detail_it_ended_with(database: Database, submit: Submit) -> None:
    lease = claimed(database, submit)
    with database.writing() as session:
        jobs.renew(session, lease, stage="quantize", detail={"text": "epoch 3/20"})
    with database.writing() as session:
        jobs.fail(session, lease, "the loss is not a number")
    with database.reading() as session:
        assert jobs.find(session, lease.job_id).detail == {"text": "epoch 3/20"}
        assert jobs.events_after(session, lease.job_id, 0)[-1].detail == {"text": "epoch 3/20"}


def test_a_checkpoint_names_its_blob_until_the_job_ends(database: Database, submit: Submit) -> None:
    lease = claimed(database, submit)
    first, second = "1" * 64, "2" * 64
    with database.writing() as session:
        assert jobs.keep_checkpoint(session, lease, first) is None
        assert jobs.keep_checkpoint(session, lease, second) == first
    with database.writing() as session:
        jobs.release(session, lease)
    with database.reading() as session:
        assert is_referenced(session, second)
        assert not is_referenced(session, first)
        assert jobs.ended_checkpoints(session) == set()
    with database.writing() as session:
        jobs.request_cancel(session, lease.job_id)
    with database.writing() as session:
        assert not is_referenced(session, second)
        assert jobs.ended_checkpoints(session) == {second}
        jobs.forget_checkpoints(session, {second})
    with database.reading() as session:
        assert jobs.find(session, lease.job_id).checkpoint_digest is None


def test_a_label_is_taken_while_a_job_or_variant_has_it(database: Database, submit: Submit) -> None:
    lease = claimed(database, submit)
    with pytest.raises(Conflict, match="'dynamic'"), database.writing() as session:
        submit(session)
    with database.writing() as session:
        jobs.succeed(session, lease, ARTIFACT, OUTCOME)
    with pytest.raises(Conflict, match="'dynamic'"), database.writing() as session:
        submit(session)
    with database.writing() as session:
        assert submit(session, label="dynamic-2").label == "dynamic-2"


@pytest.mark.parametrize("label", ["3", "original", "Int8", "a/b", ""])
def test_a_label_that_could_be_something_else_is_refused(label: str) -> None:
    with pytest.raises(Invalid):
        jobs.checked_label(label)


def test_a_queued_job_looks_different_after_each_message_for_it(database: Database, submit: Submit) -> None:
    with database.writing() as session:
        job_id = submit(session).id
        assert jobs.unannounced(session) == [job_id]
        jobs.announced(session, [job_id])
    with database.reading() as session:
        assert jobs.unannounced(session) == []
        (first,) = jobs.waiting(session)
    with database.writing() as session:
        jobs.announced(session, [job_id])
    with database.reading() as session:
        (again,) = jobs.waiting(session)
    assert first.job_id == again.job_id == job_id
    assert first != again


def test_an_idempotency_key_gives_the_same_job_and_refuses_another_request(database: Database, submit: Submit) -> None:
    with database.writing() as session:
        job = submit(session)
        jobs.remember(session, "key", "request", job)
    with database.reading() as session:
        remembered = jobs.remembered(session, "key", "request")
        assert remembered is not None
        assert remembered.id == job.id
        assert jobs.remembered(session, "other", "request") is None
        with pytest.raises(Invalid, match="different request"):
            jobs.remembered(session, "key", "another request")


def test_a_method_with_nothing_to_do_is_refused_and_named() -> None:
    with pytest.raises(NotQuantizable, match="Relu"):
        methods.check_applicable(methods.find("dynamic"), {"Relu": 3}, 100)
    with pytest.raises(NotQuantizable, match="FP32"):
        methods.check_applicable(methods.find("fp16"), {"Gemm": 1}, 0)


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("int8", {"calibration_samples": 0}, "calibration_samples"),
        ("int8", {"activation_type": "int4"}, "activation_type"),
        ("fp16", {"per_channel": True}, "per_channel"),
        ("dynamic", {"seed": -1}, "seed"),
    ],
)
def test_a_wrong_option_is_named(method: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        methods.checked_options(methods.find(method), options)


def with_torch(monkeypatch: pytest.MonkeyPatch, *, installed: bool = True) -> None:
    """As if torch were installed, or were not."""
    found = object() if installed else None
    monkeypatch.setattr(methods.importlib.util, "find_spec", lambda name: found if name == "torch" else None)


def test_training_without_torch_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    with_torch(monkeypatch, installed=False)
    with pytest.raises(Invalid, match=r"pip install 'octet\[qat\]'"):
        methods.check_applicable(methods.find("qat"), {"Gemm": 1}, 100)
    methods.check_applicable(methods.find("int8"), {"Gemm": 1}, 100)


def test_training_names_the_operator_that_it_does_not_know_and_its_node(monkeypatch: pytest.MonkeyPatch) -> None:
    with_torch(monkeypatch)
    qat = methods.find("qat")
    for nodes, words in (({"LSTM": "rnn"}, r"'LSTM' \(node 'rnn'\);"), ({"LSTM": ""}, "'LSTM';"), (None, "'LSTM';")):
        with pytest.raises(NotQuantizable, match=words):
            methods.check_applicable(qat, {"Gemm": 1, "LSTM": 2, "Relu": 1}, 100, nodes)
    with pytest.raises(NotQuantizable, match=r"'com\.microsoft::Attention'"):
        methods.check_applicable(qat, {"Gemm": 1, "com.microsoft::Attention": 1}, 100)
    # A function of the model's own, or an operator of a library.
    operators = {"Gemm": 1, "com.example::Scale": 1}
    methods.check_applicable(qat, operators, 100)
    monkeypatch.setattr(custom_operators, "_libraries", {"com.example": Path("/operators.so")})
    with pytest.raises(NotQuantizable, match=r"'com\.example::Scale'"):
        methods.check_applicable(qat, operators, 100)
    with pytest.raises(NotQuantizable, match="Conv, Gemm, MatMul"):
        methods.check_applicable(qat, {"Relu": 1}, 100)


def test_what_can_be_trained_through_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function of the model's own is what it is made of, and that is counted too."""
    with_torch(monkeypatch)
    operators = {"Conv": 1, "Relu": 2, "Constant": 1, "com.microsoft::Gelu": 1, "my.layers::Block": 3}
    methods.check_applicable(methods.find("qat"), operators, 100, {"Conv": "conv"})


AXES = SequenceAxes(inputs={"ids": 1, "mask": 1}, outputs={"tokens": 1})


@pytest.mark.parametrize("batchable", [True, False])
def test_what_was_proved_of_padding_is_kept(database: Database, submit: Submit, batchable: bool) -> None:
    proved = {"padding": AXES, "original_padding": AXES, "batchable": batchable}
    lease = claimed(database, submit)
    with database.writing() as session:
        jobs.succeed(session, lease, ARTIFACT, OUTCOME.model_copy(update=proved))
    with database.reading() as session:
        original, made = variants.listed(session, models.find(session, "resnet"))
        assert original.padding == made.padding == {"inputs": {"ids": 1, "mask": 1}, "outputs": {"tokens": 1}}
        # The original is in FP32.
        assert variants.may_be_padded(original)
        assert variants.may_be_padded(made) is batchable
        assert [row.paddable for row in comparison.compared(original.revision.model, [original, made])] == [
            True,
            batchable,
        ]


def test_a_later_job_that_proves_nothing_of_padding_takes_it_back(database: Database, submit: Submit) -> None:
    for label, proved in (("first", AXES), ("second", None)):
        with database.writing() as session:
            job_id = submit(session, label).id
            lease = jobs.claim(session, job_id)
        assert lease is not None
        with database.writing() as session:
            jobs.succeed(session, lease, ARTIFACT, OUTCOME.model_copy(update={"original_padding": proved}))
        with database.reading() as session:
            original = variants.listed(session, models.find(session, "resnet"))[0]
            assert variants.may_be_padded(original) is (proved is not None)
            # SQL's NULL, not JSON's.
            query = "SELECT count(*) FROM variants WHERE label = 'original' AND padding IS NULL"
            nothing = session.connection().exec_driver_sql(query).scalar_one()
            assert bool(nothing) is (proved is None)


def test_a_model_with_a_live_job_is_not_deleted(database: Database, submit: Submit) -> None:
    lease = claimed(database, submit)
    with pytest.raises(Conflict, match=lease.job_id), database.writing() as session:
        models.delete(session, "resnet")
    with database.writing() as session:
        jobs.succeed(session, lease, ARTIFACT, OUTCOME)
    with database.writing() as session:
        assert "a" * 64 in models.delete(session, "resnet")
    with database.reading() as session, pytest.raises(UnknownJob):
        jobs.find(session, lease.job_id)


@pytest.mark.parametrize("name", ["a\x00b", "", "a" * 300, "é", "../resnet", "resnet\n", "RESNET"])
def test_what_cannot_be_a_name_is_unknown_on_every_database(database: Database, revision: Revision, name: str) -> None:
    with database.reading() as session:
        model = models.find(session, "resnet")
        for look in (
            lambda: models.find(session, name),
            lambda: variants.find(session, model, name),
            lambda: datasets.find(session, name),
            lambda: jobs.find(session, name),
            lambda: jobs.listed(session, model=name),
        ):
            with pytest.raises(NotFound):
                look()


def test_only_the_whole_id_finds_a_job(database: Database, submit: Submit) -> None:
    with database.writing() as session:
        job_id = submit(session).id
    with database.reading() as session:
        assert jobs.find(session, job_id).id == job_id
        for other in (job_id + "0", job_id[:-1]):
            with pytest.raises(UnknownJob):
                jobs.find(session, other)


def test_a_new_revision_changes_nothing_that_is_served(database: Database, revision: Revision) -> None:
    with database.writing() as session:
        second, is_new = models.register(session, "resnet", new_revision())
        assert is_new
        assert second.number == 2
    with database.reading() as session:
        model = models.find(session, "resnet")
        assert variants.default_of(session, model).revision.number == 1
        assert variants.find(session, model, "original").revision.number == 2
        assert variants.find(session, model, "1").revision.number == 1


def test_the_same_bytes_are_the_same_revision(database: Database, revision: Revision) -> None:
    with database.writing() as session:
        again, is_new = models.register(session, "resnet", new_revision(digest=revision.digest))
        assert not is_new
        assert again.id == revision.id


def test_versions_are_never_reused(database: Database, submit: Submit) -> None:
    lease = claimed(database, submit)
    with database.writing() as session:
        jobs.succeed(session, lease, ARTIFACT, OUTCOME)
    with database.writing() as session:
        model = models.find(session, "resnet")
        variants.delete(session, model, variants.find(session, model, "dynamic"))
    with database.writing() as session:
        again = submit(session).id
        second = jobs.claim(session, again)
        assert second is not None
        assert jobs.succeed(session, second, ARTIFACT, OUTCOME).version == 3
