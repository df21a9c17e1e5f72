"""What dies, and what must not be lost with it."""

import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests import graphs
from tests.e2e.service import Process, Service, eventually

CHILD = "worker.job_process"
WORKER = "worker.celery_app"

#: Long enough to be caught in the middle.
SLOW = {"method": "int8", "dataset": "samples", "options": {"evaluation_samples": 100_000}}


def processes(service: Service) -> list[Process]:
    return list(service.processes.values())


def find(service: Service, words: str) -> psutil.Process | None:
    return next((found for process in processes(service) if (found := process.find(words))), None)


def running_child(service: Service, job_id: str) -> psutil.Process:
    """The job's child process, once it is at work."""
    service.when(job_id, "running")
    return eventually(lambda: find(service, CHILD), what="a child process")


def prepare(service: Service, model_bytes: bytes, dataset_bytes: bytes) -> None:
    service.upload_dataset(dataset_bytes)
    service.upload_model(model_bytes)


def assert_one_whole_variant(service: Service, job: dict[str, object]) -> None:
    assert job["state"] == "succeeded", job
    assert set(service.variants()) == {"original", "int8"}
    eventually(lambda: service.leftovers() == [], what="an empty scratch folder")
    blobs = [path for path in (service.home / "blobs").rglob("*") if path.is_file()]
    assert len(blobs) == 3


def test_a_killed_worker_loses_no_job(service: Service, model_bytes: bytes, dataset_bytes: bytes) -> None:
    prepare(service, model_bytes, dataset_bytes)
    job_id = service.submit(**SLOW)
    child = running_child(service, job_id)
    worker = find(service, WORKER)
    assert worker is not None
    worker.kill()
    eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, what="the child's end")
    if "worker" in service.processes:
        service.processes["worker"].popen.wait(timeout=10)
        service.start("worker")
    job = service.finished(job_id)
    assert job["attempts"] == 2
    assert_one_whole_variant(service, job)


def test_a_killed_gateway_loses_no_job(production: Service, model_bytes: bytes, dataset_bytes: bytes) -> None:
    prepare(production, model_bytes, dataset_bytes)
    job_id = production.submit(**SLOW)
    production.when(job_id, "running")
    production.processes["gateway"].kill_all()
    production.start("gateway")
    assert_one_whole_variant(production, production.finished(job_id))


def test_a_message_lost_by_the_broker_loses_no_job(
    production: Service, model_bytes: bytes, dataset_bytes: bytes
) -> None:
    import redis

    prepare(production, model_bytes, dataset_bytes)
    production.processes.pop("worker").kill_all()
    job_id = production.submit(**SLOW)
    broker = redis.Redis.from_url(production.environment["OCTET_BROKER_URL"])
    eventually(lambda: broker.llen("octet"), what="the message")
    broker.flushall()
    production.start("worker")
    assert_one_whole_variant(production, production.finished(job_id))


def test_a_frozen_worker_loses_its_job_to_the_sweep_and_publishes_nothing(
    production: Service, model_bytes: bytes, dataset_bytes: bytes
) -> None:
    prepare(production, model_bytes, dataset_bytes)
    job_id = production.submit(**SLOW)
    child = running_child(production, job_id)
    frozen = production.processes.pop("worker")
    for process in frozen.family():
        # One that only looks something up may have ended meanwhile.
        with suppress(psutil.NoSuchProcess):
            process.suspend()
    try:
        production.start("worker")
        job = production.finished(job_id)
        assert job["attempts"] == 2
        for process in frozen.family():
            with suppress(psutil.NoSuchProcess):
                process.resume()
        eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, what="the child's end")
        assert_one_whole_variant(production, job)
        assert production.job(job_id)["finished_at"] == job["finished_at"]
    finally:
        frozen.kill_all()


@pytest.mark.parametrize(
    ("sent", "words"), [(signal.SIGSEGV, "crashed with SIGSEGV"), (signal.SIGKILL, "want of memory")]
)
def test_a_job_whose_process_dies_fails_with_the_reason_and_the_worker_lives(
    embedded: Service, model_bytes: bytes, dataset_bytes: bytes, sent: signal.Signals, words: str
) -> None:
    prepare(embedded, model_bytes, dataset_bytes)
    job_id = embedded.submit(**SLOW)
    child = running_child(embedded, job_id)
    worker = find(embedded, WORKER)
    child.send_signal(sent)
    job = embedded.finished(job_id)
    assert job["state"] == "failed"
    assert words in job["error"]
    assert set(embedded.variants()) == {"original"}
    assert embedded.leftovers() == []
    assert embedded.finished(embedded.submit(method="fp16"))["state"] == "succeeded"
    assert find(embedded, WORKER) == worker


def test_a_model_that_wants_too_much_memory_fails_its_job_clearly(tmp_path: Path) -> None:
    service = Service(tmp_path / "home", {"OCTET_JOB_MEMORY_BYTES": str(3 * 1024**3)})
    service.start()
    try:
        # Of 160 GB, it is refused when it is uploaded; of 2.5 GB, it gets as far as the job, which has less.
        greedy = {"file": ("model.onnx", graphs.greedy_for_memory().SerializeToString())}
        refused = service.http.post("/api/v1/models", files=greedy, data={"name": "greedier"})
        assert refused.status_code == 422
        assert "memory" in refused.json()["detail"]
        service.upload_model(graphs.greedy_for_memory(side=25_000).SerializeToString())
        job = service.finished(service.submit(method="fp16"))
        assert job["state"] == "failed"
        assert "memory" in job["error"].lower(), job
        assert service.leftovers() == []
        assert service.http.get("/v2/health/ready").status_code == 200
    finally:
        service.stop()


def test_a_running_job_is_cancelled_within_seconds(embedded: Service, model_bytes: bytes, dataset_bytes: bytes) -> None:
    prepare(embedded, model_bytes, dataset_bytes)
    job_id = embedded.submit(**SLOW)
    child = running_child(embedded, job_id)
    assert embedded.http.delete(f"/api/v1/jobs/{job_id}").status_code == 202
    assert embedded.finished(job_id, seconds=10)["state"] == "cancelled"
    eventually(lambda: not child.is_running(), what="the child's end")
    assert set(embedded.variants()) == {"original"}
    eventually(lambda: embedded.leftovers() == [], what="an empty scratch folder")


def test_sigterm_ends_everything_and_gives_the_job_back(
    embedded: Service, model_bytes: bytes, dataset_bytes: bytes
) -> None:
    prepare(embedded, model_bytes, dataset_bytes)
    job_id = embedded.submit(**SLOW)
    running_child(embedded, job_id)
    family = embedded.processes["serve"].family()
    assert len(family) >= 4
    assert embedded.processes["serve"].end() == 0
    _gone, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []
    assert embedded.leftovers() == []
    embedded.start()
    job = embedded.finished(job_id)
    assert job["attempts"] == 1
    assert_one_whole_variant(embedded, job)


def test_nothing_outlives_a_killed_supervisor(embedded: Service) -> None:
    family = embedded.processes["serve"].family()
    family[0].kill()
    _gone, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    embedded.start()


def test_a_job_submitted_while_the_broker_is_away_is_done_when_it_is_back(
    tmp_path: Path, postgresql_url: str, redis_url: str, model_bytes: bytes
) -> None:
    nowhere = {"OCTET_DATABASE_URL": postgresql_url, "OCTET_BROKER_URL": "redis://127.0.0.1:1/0"}
    service = Service(tmp_path / "home", nowhere, apart=True)
    service.migrate()
    service.start("gateway")
    try:
        service.upload_model(model_bytes)
        started = time.monotonic()
        job_id = service.submit(method="fp16")
        assert time.monotonic() - started < 5, "submitting waited for the broker"
        service.processes.pop("gateway").end()
        service.environment["OCTET_BROKER_URL"] = redis_url
        service.start("gateway", "worker")
        assert service.finished(job_id)["state"] == "succeeded"
    finally:
        service.stop()
