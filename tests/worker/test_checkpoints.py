"""A job whose worker died goes on from where it was; and no checkpoint outlives its job."""

import hashlib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from app.blobs import open_store
from app.contracts.job_spec import JobSpec
from app.errors import JobFailed, LeaseLost, NoSpace
from app.registry import Database, jobs, models
from app.registry.jobs import Heartbeat, Lease
from app.registry.tables import Job
from app.settings import Settings
from tests.worker.models import classifier
from tests.worker.models import write as write_model
from tests.worker.runs import Messages, child, made, submitted, write
from worker import job_process, runner
from worker.channel import Channel
from worker.checkpoints import Checkpoints
from worker.lasting import Lasting
from worker.methods import Task, fp16
from worker.runner import Runner
from worker.sweeper import Sweeper

pytestmark = pytest.mark.e2e

EARLY, LATE = b"weights after epoch 3", b"weights after epoch 7"


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def stored(settings: Settings) -> set[str]:
    """All blobs but the upload's."""
    return set(open_store(settings).digests()) - {"a" * 64}


def kept(database: Database, job_id: str) -> str | None:
    with database.reading() as session:
        return jobs.find(session, job_id).checkpoint_digest


def state_of(database: Database, job_id: str) -> str | None:
    with database.reading() as session:
        return jobs.state_of(session, job_id)


def announce(database: Database, job_id: str, path: Path, content: bytes) -> Messages:
    """What a child says that writes a checkpoint, until that is kept."""
    yield {"checkpoint": write(path, content)}
    while kept(database, job_id) != digest_of(content):
        time.sleep(0.02)
        yield None


def outcome(folder: Path) -> dict[str, Any]:
    return {"outcome": made(folder).model_dump(mode="json")}


def running(settings: Settings, database: Database) -> Runner:
    return Runner(settings, database, open_store(settings))


def let_lease_run_out(database: Database, job_id: str, *, max_attempts: int = 3) -> None:
    with database.writing() as session:
        assert jobs.expire(session, jobs.heartbeats(session), max_attempts=max_attempts) == [job_id]


_DOOMED = """
import sys, time
from pathlib import Path
from app.blobs import open_store
from app.registry import Database
from app.settings import Settings
from tests.worker.runs import child, write
from worker import runner

def play(folder):
    yield {"checkpoint": write(folder / "weights.bin", sys.argv[3].encode())}
    while True:
        time.sleep(0.05)
        yield {"stage": "quantize", "progress": 0.4, "detail": {"text": "epoch 3/20"}}

settings = Settings(home=Path(sys.argv[1]))
runner.Child = child(play)
runner.Runner(settings, Database(settings.registry_url), open_store(settings)).run(sys.argv[2])
"""


def test_after_a_killed_worker_the_next_attempt_is_given_what_the_first_had_reached(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submitted(settings, database)
    worker = subprocess.Popen(
        [sys.executable, "-c", _DOOMED, str(settings.home), job_id, EARLY.decode()], cwd=Path(__file__).parents[2]
    )
    deadline = time.monotonic() + 60
    while kept(database, job_id) is None:
        assert worker.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    worker.kill()
    worker.wait()
    let_lease_run_out(database, job_id)
    given: list[bytes] = []

    def play(folder: Path) -> Messages:
        spec = JobSpec.read(folder)
        assert spec.checkpoint == "checkpoint.bin"
        given.append((folder / spec.checkpoint).read_bytes())
        yield from announce(database, job_id, folder / "checkpoint.bin", LATE)
        # What it takes the place of is deleted when it is in force, and not before.
        while stored(settings) != {digest_of(LATE)}:
            time.sleep(0.02)
            yield None
        yield outcome(folder)

    monkeypatch.setattr(runner, "Child", child(play))
    running(settings, database).run(job_id)
    assert given == [EARLY]
    with database.reading() as session:
        job = jobs.find(session, job_id)
        assert (job.state, job.attempts, job.checkpoint_digest) == ("succeeded", 2, None)
        assert job.variant is not None
        assert stored(settings) == {job.variant.digest}


@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled"])
def test_no_checkpoint_outlives_its_job(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    job_id = submitted(settings, database)

    def play(folder: Path) -> Messages:
        assert JobSpec.read(folder).checkpoint is None
        yield from announce(database, job_id, folder / "weights.bin", EARLY)
        yield from announce(database, job_id, folder / "weights.bin", LATE)
        if end == "cancelled":
            with database.writing() as session:
                jobs.request_cancel(session, job_id)
            while True:
                yield None
        yield {"error": "it broke"} if end == "failed" else outcome(folder)

    monkeypatch.setattr(runner, "_HEARTBEAT_SECONDS", 0.0)
    monkeypatch.setattr(runner, "Child", child(play))
    running(settings, database).run(job_id)
    with database.reading() as session:
        job = jobs.find(session, job_id)
        assert (job.state, job.checkpoint_digest) == (end, None)
        assert stored(settings) == ({job.variant.digest} if job.variant is not None else set())
    assert list(settings.scratch_folder.glob("job-*")) == []


def test_a_job_given_back_keeps_its_checkpoint(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submitted(settings, database)
    stopping = running(settings, database)

    def play(folder: Path) -> Messages:
        yield from announce(database, job_id, folder / "weights.bin", EARLY)
        stopping.stop()
        yield None

    monkeypatch.setattr(runner, "Child", child(play))
    stopping.run(job_id)
    assert state_of(database, job_id) == "queued"
    assert kept(database, job_id) == digest_of(EARLY)
    assert stored(settings) == {digest_of(EARLY)}


def test_a_worker_that_lost_its_job_does_not_replace_what_a_later_one_reached(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It learns of the loss when it is about to keep a checkpoint, and not by its heartbeat."""
    job_id = submitted(settings, database)
    keep_checkpoint = jobs.keep_checkpoint
    refused: list[str] = []

    def late(session: Any, lease: Lease, digest: str) -> str | None:
        with pytest.raises(LeaseLost) as error:
            keep_checkpoint(session, lease, digest)
        refused.append(digest)
        raise error.value

    def play(folder: Path) -> Messages:
        let_lease_run_out(database, job_id)
        with database.writing() as session:
            second = jobs.claim(session, job_id)
        assert second is not None
        blobs = open_store(settings)
        other = Checkpoints(database, blobs, second, folder)
        other.keep(write(folder / "later.bin", LATE))
        while kept(database, job_id) is None:
            time.sleep(0.02)
        other.end()
        monkeypatch.setattr(jobs, "keep_checkpoint", late)
        monkeypatch.setattr(jobs, "renew", lambda *_, **__: False)
        yield {"checkpoint": write(folder / "weights.bin", EARLY)}
        while not refused:
            time.sleep(0.02)
        yield outcome(folder)

    monkeypatch.setattr(runner, "Child", child(play))
    running(settings, database).run(job_id)
    assert refused == [digest_of(EARLY)]
    assert state_of(database, job_id) == "running"
    assert kept(database, job_id) == digest_of(LATE)
    assert stored(settings) == {digest_of(LATE)}


def test_the_heart_beats_while_a_large_checkpoint_is_hashed(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lease of two seconds, and a disk that takes three to be read."""
    job_id = submitted(settings, database)
    hashing: list[float] = []
    digest = Checkpoints._digest

    def slow(self: Checkpoints, path: Path) -> str | None:
        hashing.append(time.monotonic())
        time.sleep(3)
        return digest(self, path)

    silent = Lasting[Heartbeat](2.0)

    def play(folder: Path) -> Messages:
        for message in announce(database, job_id, folder / "weights.bin", EARLY):
            yield message
            with database.reading() as session:
                assert silent.among(jobs.heartbeats(session)) == []
        assert time.monotonic() - hashing[0] >= 3
        yield outcome(folder)

    monkeypatch.setattr(Checkpoints, "_digest", slow)
    monkeypatch.setattr(runner, "Child", child(play))
    short = settings.model_copy(update={"job_lease_seconds": 2.0})
    running(short, database).run(job_id)
    assert state_of(database, job_id) == "succeeded"


def test_of_checkpoints_that_come_faster_than_they_are_kept_the_newest_is(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submitted(settings, database)
    hashed: list[bytes] = []
    digest = Checkpoints._digest
    all_announced = threading.Event()

    def slow(self: Checkpoints, path: Path) -> str | None:
        hashed.append(path.read_bytes())
        assert all_announced.wait(60)
        return digest(self, path)

    def play(folder: Path) -> Messages:
        for epoch in range(20):
            yield {"checkpoint": write(folder / "weights.bin", b"epoch %d" % epoch)}
        all_announced.set()
        while kept(database, job_id) != digest_of(b"epoch 19"):
            time.sleep(0.02)
            yield None
        yield outcome(folder)

    monkeypatch.setattr(Checkpoints, "_digest", slow)
    monkeypatch.setattr(runner, "Child", child(play))
    running(settings, database).run(job_id)
    assert state_of(database, job_id) == "succeeded"
    assert hashed[-1] == b"epoch 19"
    assert len(hashed) <= 2


@pytest.mark.parametrize("trouble", ["full disk", "registry away", "defect"])
def test_a_checkpoint_that_cannot_be_kept_is_logged_and_the_job_goes_on(
    settings: Settings,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    trouble: str,
) -> None:
    errors = {
        "full disk": NoSpace("the disk that holds the artifacts is full"),
        "registry away": runner.OperationalError("UPDATE jobs", {}, Exception("no answer")),
        "defect": KeyError("what nobody thought of"),
    }
    job_id = submitted(settings, database)
    blobs = open_store(settings)
    put = blobs.put

    def broken(path: Path, digest: str) -> None:
        if digest == digest_of(EARLY):
            raise errors[trouble]
        put(path, digest)

    def play(folder: Path) -> Messages:
        yield {"checkpoint": write(folder / "weights.bin", EARLY)}
        while "the checkpoint is not kept" not in caplog.text:
            time.sleep(0.02)
            yield None
        yield from announce(database, job_id, folder / "weights.bin", LATE)
        yield outcome(folder)

    monkeypatch.setattr(blobs, "put", broken)
    monkeypatch.setattr(runner, "Child", child(play))
    Runner(settings, database, blobs).run(job_id)
    assert state_of(database, job_id) == "succeeded"
    assert len(stored(settings)) == 1


@pytest.mark.parametrize("name", ["../../registry.sqlite3", "missing.bin", "link.bin", ""])
def test_only_a_file_of_the_jobs_own_folder_is_kept(
    settings: Settings,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    job_id = submitted(settings, database)

    def play(folder: Path) -> Messages:
        (folder / "link.bin").symlink_to(settings.home / "registry.sqlite3")
        yield {"checkpoint": name}
        while "is not a file of the job's folder" not in caplog.text:
            time.sleep(0.02)
            yield None
        assert kept(database, job_id) is None
        yield outcome(folder)

    monkeypatch.setattr(runner, "Child", child(play))
    running(settings, database).run(job_id)
    assert state_of(database, job_id) == "succeeded"


def requeued_with_checkpoint(settings: Settings, database: Database, tmp_path: Path) -> str:
    """A queued job whose first worker died after a checkpoint."""
    job_id = submitted(settings, database)
    with database.writing() as session:
        lease = jobs.claim(session, job_id)
    assert lease is not None
    first = Checkpoints(database, open_store(settings), lease, tmp_path)
    first.keep(write(tmp_path / "weights.bin", EARLY))
    while kept(database, job_id) is None:
        time.sleep(0.02)
    first.end()
    let_lease_run_out(database, job_id)
    assert stored(settings) == {digest_of(EARLY)}
    return job_id


def test_a_checkpoint_that_is_gone_has_the_job_begin_anew(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job_id = requeued_with_checkpoint(settings, database, tmp_path)
    open_store(settings).delete(digest_of(EARLY))

    def play(folder: Path) -> Messages:
        assert JobSpec.read(folder).checkpoint is None
        yield outcome(folder)

    monkeypatch.setattr(runner, "Child", child(play))
    running(settings, database).run(job_id)
    assert state_of(database, job_id) == "succeeded"
    assert kept(database, job_id) is None


def test_the_sweep_that_fails_a_job_for_good_removes_its_checkpoint(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    job_id = requeued_with_checkpoint(settings, database, tmp_path)
    with database.writing() as session:
        jobs.claim(session, job_id)
        session.execute(update(Job).values(attempts=3))
    sweeper = Sweeper(
        settings.model_copy(update={"job_lease_seconds": 0.01}),
        database,
        open_store(settings),
        running(settings, database),
        start=lambda _: None,
    )
    while state_of(database, job_id) == "running":
        sweeper.sweep()
    assert state_of(database, job_id) == "failed"
    assert kept(database, job_id) is None
    assert stored(settings) == set()


def test_a_checkpoint_shared_with_a_live_job_stays(settings: Settings, database: Database, tmp_path: Path) -> None:
    first = requeued_with_checkpoint(settings, database, tmp_path)
    second = submitted(settings, database, label="other")
    with database.writing() as session:
        session.execute(update(Job).where(Job.id == second).values(checkpoint_digest=digest_of(EARLY)))
    for job_id, left in ((first, {digest_of(EARLY)}), (second, set())):
        with database.writing() as session:
            jobs.request_cancel(session, job_id)
        running(settings, database).discard_checkpoints()
        assert kept(database, job_id) is None
        assert stored(settings) == left


def test_a_model_is_deleted_with_checkpoints_that_a_crash_left(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    job_id = requeued_with_checkpoint(settings, database, tmp_path)
    with database.writing() as session:
        jobs.request_cancel(session, job_id)
    with database.writing() as session:
        assert digest_of(EARLY) in models.delete(session, "linear")


def test_a_method_is_given_its_checkpoint_and_announces_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[dict[str, Any]] = []

    class Sink:
        def write(self, line: str, /) -> None:
            lines.append(json.loads(line))

    def make(task: Task) -> None:
        assert task.checkpoint is not None
        assert task.checkpoint.read_bytes() == EARLY
        assert task.point == ("conv1", "gemm")
        write(task.folder / "weights.bin", LATE)
        task.save(task.folder / "weights.bin")
        raise JobFailed("enough")

    write_model(classifier(), tmp_path)
    write(tmp_path / "checkpoint.bin", EARLY)
    spec = {"options": {"seed": 0}, "engine": "onnxruntime", "model": "original.onnx", "model_digest": "5" * 64}
    JobSpec(method="fp16", checkpoint="checkpoint.bin", point=["conv1", "gemm"], intra_op_threads=1, **spec).write(
        tmp_path
    )
    monkeypatch.setattr(fp16, "make", make)
    assert job_process.main(tmp_path, Channel(Sink())) == 1
    assert lines[-2] == {"checkpoint": "weights.bin"}
    assert lines[-1]["error"] == "enough"
