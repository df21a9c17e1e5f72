"""What the runner does where real processes would be hard to bring to it; `tests/e2e/faults` has the rest."""

import errno
import json
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.blobs import open_store
from app.contracts.figures import PointFigures
from app.contracts.job_spec import JobSpec
from app.digest import sha256_of
from app.errors import JobFailed, NoSpace
from app.registry import Database, OperationalError, Session, jobs, models, points
from app.registry.jobs import Heartbeat, Lease
from app.settings import Settings
from tests.worker.runs import made, submitted, with_dataset
from worker import job_process, pipeline, publication, runner
from worker.channel import Channel
from worker.endings import Succeeded
from worker.runner import Runner


def test_a_failed_jobs_files_are_gone_before_its_failure_is_recorded(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk, it is what the job wrote that keeps the registry from writing."""
    left: list[Path] = []
    fail = jobs.fail

    def watched(session: Session, lease: Lease, error: str, **details: Any) -> None:
        left.extend(settings.scratch_folder.glob("job-*"))
        fail(session, lease, error, **details)

    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(jobs, "fail", watched)
    monkeypatch.setattr(runner, "Child", broken)
    job_id = submitted(settings, database)
    Runner(settings, database, open_store(settings)).run(job_id)
    assert left == []
    with database.reading() as session:
        job = jobs.find(session, job_id)
        assert job.state == "failed"
        assert job.error is not None
        assert "No space left" in job.error


def test_a_job_whose_model_is_missing_fails_with_the_reason(settings: Settings, database: Database) -> None:
    job_id = submitted(settings, database)
    open_store(settings).delete("a" * 64)
    Runner(settings, database, open_store(settings)).run(job_id)
    with database.reading() as session:
        job = jobs.find(session, job_id)
        assert job.state == "failed"
        assert (job.error or "").endswith(f"blob {'a' * 64} is missing from the blob store")
    assert list(settings.scratch_folder.glob("job-*")) == []


def test_a_job_that_is_not_queued_is_left_alone(settings: Settings, database: Database) -> None:
    job_id = submitted(settings, database)
    with database.writing() as session:
        jobs.request_cancel(session, job_id)
    Runner(settings, database, open_store(settings)).run(job_id)
    with database.reading() as session:
        assert jobs.state_of(session, job_id) == "cancelled"


def test_a_runner_that_is_stopping_takes_no_job(settings: Settings, database: Database) -> None:
    job_id = submitted(settings, database)
    stopping = Runner(settings, database, open_store(settings))
    stopping.stop()
    stopping.run(job_id)
    with database.reading() as session:
        assert jobs.state_of(session, job_id) == "queued"


def test_a_full_disk_is_named_as_the_reason(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise JobFailed("Protobuf serialization failed")

    monkeypatch.setattr(runner, "Child", broken)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4096))
    job_id = submitted(settings, database)
    Runner(settings, database, open_store(settings)).run(job_id)
    with database.reading() as session:
        assert jobs.find(session, job_id).error == (
            "the disk that the worker works on is full (Protobuf serialization failed)"
        )


def test_an_error_is_told_though_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the error nor the log is written to a file."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    messages: list[dict[str, str]] = []

    class Sink:
        def write(self, line: str, /) -> None:
            messages.append(json.loads(line))

    JobSpec(
        method="fp16", options={}, engine="onnxruntime", model="m.onnx", model_digest="a", intra_op_threads=1
    ).write(tmp_path)
    monkeypatch.setattr(pipeline, "run", full)
    assert job_process.main(tmp_path, Channel(Sink())) == 1
    assert "No space left" in messages[-1]["error"]
    assert messages[-1]["traceback"].startswith("Traceback")


def test_a_disk_too_full_to_publish_fails_the_job_though_the_registry_answers_late(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job's files are gone by then, so only recording the failure may be tried again."""
    blobs = open_store(settings)
    fail, calls = jobs.fail, 0

    def make(_: Runner, __: Lease, folder: Path, *___: object) -> Succeeded:
        return Succeeded(made(folder))

    def full(*_: object) -> None:
        raise NoSpace("the disk that holds the artifacts is full")

    def late(session: Session, lease: Lease, error: str, **details: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OperationalError("UPDATE jobs", {}, Exception("database or disk is full"))
        fail(session, lease, error, **details)

    job_id = submitted(settings, database)
    monkeypatch.setattr(Runner, "_follow", make)
    monkeypatch.setattr(blobs, "put", full)
    monkeypatch.setattr(jobs, "fail", late)
    monkeypatch.setattr(runner.time, "sleep", lambda _: None)
    Runner(settings, database, blobs).run(job_id)
    with database.reading() as session:
        job = jobs.find(session, job_id)
        assert (job.state, job.error) == ("failed", "the disk that holds the artifacts is full")
    assert calls == 2
    assert list(settings.scratch_folder.glob("job-*")) == []


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "the disk that holds the artifacts is full"), (errno.EIO, "Input/output error")],
)
def test_a_job_whose_artifact_can_have_no_name_fails_with_the_reason(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def make(_: Runner, __: Lease, folder: Path, *___: object) -> Succeeded:
        return Succeeded(made(folder))

    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    job_id = submitted(settings, database)
    monkeypatch.setattr(Runner, "_follow", make)
    monkeypatch.setattr(publication, "_second_name", refused)
    Runner(settings, database, open_store(settings)).run(job_id)
    with database.reading() as session:
        job = jobs.find(session, job_id)
        assert (job.state, job.attempts) == ("failed", 1)
        assert words in (job.error or "")
    assert list(settings.scratch_folder.glob("job-*")) == []


def test_a_second_job_on_the_same_model_and_samples_is_given_what_the_first_found(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[bytes | None] = []

    def follow(_: Runner, __: Lease, folder: Path, *___: object) -> Succeeded:
        spec = JobSpec.read(folder)
        given.append((folder / spec.statistics).read_bytes() if spec.statistics is not None else None)
        (folder / "found.npz").write_bytes(b"found")
        return Succeeded(made(folder, "found.npz" if spec.method == "int8" else None))

    monkeypatch.setattr(Runner, "_follow", follow)
    dataset = with_dataset(settings, database)
    running = Runner(settings, database, open_store(settings))
    for method, label in (("fp16", "half"), ("int8", "first"), ("int8", "second"), ("fp16", "other")):
        running.run(submitted(settings, database, method, label, dataset))
    assert given == [None, None, b"found", None]


@pytest.mark.parametrize("trouble", ["no file", "refused"])
def test_a_job_succeeds_though_what_calibration_found_cannot_be_kept(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    def follow(_: Runner, __: Lease, folder: Path, *___: object) -> Succeeded:
        if trouble == "refused":
            (folder / "found.npz").write_bytes(b"found")
            with database.writing() as session:
                session.connection().exec_driver_sql("DROP TABLE calibrations")
        return Succeeded(made(folder, "found.npz"))

    monkeypatch.setattr(Runner, "_follow", follow)
    job_id = submitted(settings, database, "int8", dataset=with_dataset(settings, database))
    Runner(settings, database, open_store(settings)).run(job_id)
    with database.reading() as session:
        assert jobs.state_of(session, job_id) == "succeeded"


def test_a_job_that_makes_a_point_is_told_what_stays_in_fp32(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = {"accuracy": None, "agreement": None, "sqnr_db": None, "latency_ms": None, "speedup": None}
    found = [PointFigures(kept=kept, size_bytes=1, chosen=False, **figures) for kept in ([], ["conv", "gemm"])]
    given: list[list[str] | None] = []

    def follow(_: Runner, __: Lease, folder: Path, *___: object) -> Succeeded:
        given.append(JobSpec.read(folder).point)
        return Succeeded(made(folder).model_copy(update={"points": found if given == [None] else []}))

    monkeypatch.setattr(Runner, "_follow", follow)
    dataset = with_dataset(settings, database)
    running = Runner(settings, database, open_store(settings))
    running.run(submitted(settings, database, "mixed", dataset=dataset))
    with database.reading() as session:
        ids = [point.id for point in points.listed(session, models.find(session, "linear"))]
    for label, point in zip(("smallest", "best"), ids, strict=True):
        running.run(submitted(settings, database, "mixed", label, dataset, point=point))
    assert given == [None, [], ["conv", "gemm"]]


def test_a_worker_is_heard_of_while_it_reads_what_its_job_made(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long that takes: artifacts come to gigabytes, and disks are slow."""
    heard: set[Heartbeat] = set()

    def slow(path: Path) -> str:
        deadline = time.monotonic() + 30
        while len(heard) < 3:
            assert time.monotonic() < deadline, heard
            with database.reading() as session:
                heard.update(jobs.heartbeats(session))
        return sha256_of(path)

    monkeypatch.setattr(Runner, "_follow", lambda _, __, folder, *___: Succeeded(made(folder)))
    monkeypatch.setattr(publication, "sha256_of", slow)
    job_id = submitted(settings, database)
    Runner(settings, database, open_store(settings)).run(job_id)
    with database.reading() as session:
        assert jobs.state_of(session, job_id) == "succeeded"
