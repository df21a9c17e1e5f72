"""SIGKILL of a worker with all that it started, or of a job's process alone, in each stage of a job.

The stages are caught for real: the job's process is suspended as soon as the registry tells the stage.
"""

import importlib.util
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

import psutil
import psycopg
import pytest

from tests import graphs
from tests.e2e.conftest import npz
from tests.e2e.faults.children import child_of, run_for
from tests.e2e.faults.whole import assert_whole
from tests.e2e.service import Service, eventually
from tests.e2e.shared import Stack, running_stack
from tests.servers import missing

pytestmark = pytest.mark.slow

STAGES = ("starting", "prepare", "calibrate", "quantize", "gate", "evaluate")
#: In the order in which a job passes through them; `search` and `train` are of one method each.
ORDER = ("queued", "starting", "prepare", "calibrate", "quantize", "search", "train", "gate", "evaluate")

#: A stage may take less than a slice, so that a job is caught behind it.
TRIES = 20
#: A job's process runs for so long at a time until it is where it is to be caught: its stages take longer.
SLICE_SECONDS = 0.002
#: While libraries are loaded, and where a stage of seconds is waited for.
LONG_SLICE_SECONDS = 0.01
LONG = ("starting", "search", "train")
#: For the worker to tell the registry what the process has told it.
TOLD_SECONDS = 0.005

#: As `app.registry.database.lock_blobs` has it.
LOCK_BLOBS = "SELECT pg_advisory_xact_lock(%s)"
BLOBS = 811734001

numbers = count(1)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """With a dataset `samples`, and a `model` that no step of a job is done with at once."""
    with running_stack(tmp_path_factory.mktemp("stages"), tmp_path_factory.mktemp("pg")) as stack:
        samples = graphs.labelled_samples(samples=1200, shape=(3, 8, 8), name="image")
        stack.service.upload_dataset(npz(**samples))
        stack.service.upload_model(graphs.deep_convolution(layers=12).SerializeToString())
        yield stack


class Registry:
    """What a test sees of the database, and holds in it, by connections of its own."""

    def __init__(self, service: Service) -> None:
        self._url = service.environment["OCTET_DATABASE_URL"]
        self.autocommit = psycopg.connect(self._url, autocommit=True)

    def one(self, query: str, *values: object) -> Any:
        """The only column of the only row."""
        row = self.autocommit.execute(query, values).fetchone()  # type: ignore[arg-type]
        assert row is not None
        return row[0]

    def stage(self, job_id: str) -> str:
        return str(self.one("SELECT stage FROM jobs WHERE id = %s", job_id))

    @contextmanager
    def holding(self, query: str, *values: object) -> Iterator[psycopg.Connection[Any]]:
        """What `query` locks, until the block ends or rolls back."""
        with psycopg.connect(self._url, application_name="test") as connection:
            connection.execute(query, values)  # type: ignore[arg-type]
            yield connection
            connection.rollback()

    def waiting_for(self, holder: psycopg.Connection[Any]) -> int | None:
        """The number of a process of the database that `holder` keeps waiting for the service."""
        query = "SELECT min(pid) FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid)) AND application_name = ''"
        pid: int | None = self.one(query, holder.info.backend_pid)
        return pid


@pytest.fixture
def registry(stack: Stack) -> Iterator[Registry]:
    registry = Registry(stack.service)
    yield registry
    registry.autocommit.close()


def job_in(service: Service, registry: Registry, stage: str, **wanted: Any) -> tuple[dict[str, Any], psutil.Process]:
    """A running job, and its process, which is suspended in `stage`."""
    for _ in range(TRIES):
        job_id = service.submit(**{"dataset": "samples", "method": "int8", "variant": f"v{next(numbers)}"} | wanted)
        child = child_of(service)
        child.suspend()
        if reaches(registry, job_id, child, stage):
            return service.job(job_id), child
        # One that was too quick may have ended by now.
        with suppress(psutil.NoSuchProcess):
            child.resume()
        assert service.finished(job_id)["state"] == "succeeded"
    raise AssertionError(f"no job was caught in stage {stage} in {TRIES} tries")


def reaches(registry: Registry, job_id: str, child: psutil.Process, wanted: str) -> bool:
    """Whether the process could be suspended in stage `wanted`, and not after it."""
    while (stage := registry.stage(job_id)) in ORDER and ORDER.index(stage) < ORDER.index(wanted):
        run_for(child, LONG_SLICE_SECONDS if stage in LONG or wanted in LONG else SLICE_SECONDS)
        time.sleep(TOLD_SECONDS)
    # The second heartbeat from now began after all was read that the process has told.
    renewed = "SELECT lease_renewed_at FROM jobs WHERE id = %s"
    for _ in range(2):
        before = registry.one(renewed, job_id)
        eventually(
            lambda before=before: registry.one(renewed, job_id) != before or registry.stage(job_id) != wanted,
            what="a heartbeat",
        )
    return registry.stage(job_id) == wanted


def kill_worker(service: Service) -> None:
    service.processes.pop("worker").kill_all()


def assert_done_once(service: Service, job_id: str, *, attempts: int) -> None:
    job = service.finished(job_id)
    assert (job["state"], job["attempts"]) == ("succeeded", attempts), job
    assert_whole(service)


@pytest.mark.parametrize("stage", STAGES)
def test_a_worker_killed_in_any_stage_loses_no_job(stack: Stack, registry: Registry, stage: str) -> None:
    service = stack.service
    job, _child = job_in(service, registry, stage)
    assert (job["state"], job["stage"]) == ("running", stage)
    kill_worker(service)
    service.start("worker")
    assert_done_once(service, job["id"], attempts=2)


@pytest.mark.parametrize("stage", STAGES)
def test_a_job_whose_process_is_killed_in_any_stage_fails_and_leaves_nothing(
    stack: Stack, registry: Registry, stage: str
) -> None:
    service = stack.service
    worker = service.processes["worker"].popen
    job, child = job_in(service, registry, stage)
    child.kill()
    ended = service.finished(job["id"])
    assert (ended["state"], ended["attempts"]) == ("failed", 1)
    assert f"killed at stage '{stage}'" in ended["error"]
    assert job["variant"] not in service.variants()
    assert_whole(service)
    assert worker.poll() is None


@pytest.mark.parametrize(("stage", "method"), [("search", "mixed"), ("train", "qat")])
def test_a_worker_killed_in_the_long_stage_of_a_method_loses_no_job(
    stack: Stack, registry: Registry, stage: str, method: str
) -> None:
    if method == "qat" and importlib.util.find_spec("torch") is None:
        missing("torch")
    service = stack.service
    job, _child = job_in(service, registry, stage, method=method, options={"max_seconds": 2.0})
    kill_worker(service)
    service.start("worker")
    assert_done_once(service, job["id"], attempts=2)


# Publishing is no stage of the job's process: the worker does it, in one transaction, which the test's own holds up.


@pytest.fixture
def fresh(stack: Stack) -> str:
    """A model whose variants are none that the store has already."""
    number = next(numbers)
    name = f"linear{number}"
    stack.service.upload_model(graphs.linear_classifier(features=64, seed=number).SerializeToString(), name=name)
    return name


def blobs(service: Service) -> set[str]:
    return {path.name for path in (service.home / "blobs").rglob("*") if path.is_file()}


def test_a_worker_killed_before_it_stores_what_it_made_loses_no_job(
    stack: Stack, registry: Registry, fresh: str
) -> None:
    service, before = stack.service, blobs(stack.service)
    with registry.holding(LOCK_BLOBS, BLOBS) as holder:
        job_id = service.submit(model=fresh, method="fp16")
        eventually(lambda: registry.waiting_for(holder), what="a worker that is to publish")
        assert blobs(service) == before
        kill_worker(service)
    service.start("worker")
    assert_done_once(service, job_id, attempts=2)


@contextmanager
def stored(service: Service, registry: Registry, model: str) -> Iterator[tuple[str, psycopg.Connection[Any], int]]:
    """A job whose worker has stored what it made and has not committed, who keeps it from that, and where it waits."""
    before = blobs(service)
    with registry.holding(LOCK_BLOBS, BLOBS) as first:
        job_id = service.submit(model=model, method="fp16")
        eventually(lambda: registry.waiting_for(first), what="a worker that is to publish")
        with registry.holding("SELECT id FROM models WHERE name = %s FOR UPDATE", model) as holder:
            first.rollback()
            pid = eventually(lambda: registry.waiting_for(holder), what="a worker that has stored what it made")
            assert len(blobs(service) - before) == 1
            assert service.job(job_id)["state"] == "running"
            yield job_id, holder, pid


def test_a_worker_killed_between_what_it_stored_and_the_commit_loses_no_job(
    stack: Stack, registry: Registry, fresh: str
) -> None:
    service = stack.service
    with stored(service, registry, fresh) as (job_id, _holder, _pid):
        kill_worker(service)
    service.start("worker")
    assert_done_once(service, job_id, attempts=2)


def test_what_a_killed_worker_stored_goes_when_its_job_will_not_be_done_again(
    stack: Stack, registry: Registry, fresh: str
) -> None:
    service, before = stack.service, blobs(stack.service)
    with stored(service, registry, fresh) as (job_id, _holder, _pid):
        kill_worker(service)
    assert service.http.delete(f"/api/v1/jobs/{job_id}").status_code == 202
    assert len(blobs(service) - before) == 1
    service.start("worker")
    assert service.finished(job_id)["state"] == "cancelled"
    assert_whole(service)
    assert blobs(service) == before


@contextmanager
def commits_unanswered(registry: Registry) -> Iterator[None]:
    """Commits happen, and nobody hears of it: the server waits for a second one, which there is none of."""
    set_standby(registry, "nobody")
    try:
        yield
    finally:
        set_standby(registry, "")


def set_standby(registry: Registry, name: str) -> None:
    registry.autocommit.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")  # type: ignore[call-overload]
    registry.one("SELECT pg_reload_conf()")
    eventually(lambda: registry.one("SHOW synchronous_standby_names") == name, what="the setting")


def test_a_job_whose_worker_was_killed_before_it_heard_of_its_commit_is_not_done_again(
    stack: Stack, registry: Registry, fresh: str
) -> None:
    service, waits = stack.service, "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"
    with stored(service, registry, fresh) as (job_id, holder, pid), commits_unanswered(registry):
        holder.rollback()
        eventually(lambda: registry.one(waits, pid) == "SyncRep", what="a commit that nobody hears of")
        kill_worker(service)
    service.start("worker")
    assert_done_once(service, job_id, attempts=1)


def test_a_worker_killed_after_its_commit_leaves_nothing_behind(stack: Stack, registry: Registry, fresh: str) -> None:
    service, waits = stack.service, "SELECT wait_event_type FROM pg_stat_activity WHERE pid = %s"
    with registry.holding(LOCK_BLOBS, BLOBS) as holder, registry.holding("SELECT 1") as second:
        job_id = service.submit(model=fresh, method="fp16")
        eventually(lambda: registry.waiting_for(holder), what="a worker that is to publish")
        # Whoever asks next is next: after the worker's commit, and before its clean-up.
        asking = threading.Thread(target=second.execute, args=(LOCK_BLOBS, [BLOBS]), daemon=True)
        asking.start()
        eventually(lambda: registry.one(waits, second.info.backend_pid) == "Lock", what="a second in the line")
        holder.rollback()
        asking.join(60)
        job = service.finished(job_id)
        eventually(lambda: registry.waiting_for(second), what="a worker that is to clean up")
        assert service.leftovers() != []
        kill_worker(service)
    service.start("worker")
    assert_done_once(service, job_id, attempts=1)
    assert service.job(job_id) == job
