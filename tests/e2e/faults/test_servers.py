"""The database and the broker go away, and come back."""

import time
from collections.abc import Callable

import pytest

from tests import graphs
from tests.e2e.faults.client import Client
from tests.e2e.faults.test_processes import CHILD, SLOW, find, prepare
from tests.e2e.faults.whole import assert_whole
from tests.e2e.service import Service, eventually
from tests.e2e.shared import Stack

X = [{"name": "x", "shape": [1, 16], "datatype": "FP32", "data": [0.5] * 16}]
#: Longer than a client waits, and than the broker's own clients try.
BROKER_AWAY_SECONDS = 30
#: Longer than the lease of a job in these tests.
DATABASE_AWAY_SECONDS = 8


def at_work(service: Service, model_bytes: bytes, dataset_bytes: bytes) -> str:
    """A job whose child is at work; and the model `linear`, which is in memory."""
    service.upload_model(graphs.linear_classifier().SerializeToString(), name="linear")
    assert asked(service) == 200
    prepare(service, model_bytes, dataset_bytes)
    job_id = service.submit(**SLOW)
    service.when(job_id, "running")
    eventually(lambda: find(service, CHILD), what="a child process")
    return job_id


def asked(service: Service) -> int:
    return service.http.post("/v2/models/linear/infer", json={"inputs": X}).status_code


def pids(service: Service) -> dict[str, int]:
    return {name: process.popen.pid for name, process in service.processes.items()}


def stopped(stack: Stack) -> None:
    stack.database.stop()
    stack.database.start()


def killed(stack: Stack) -> None:
    stack.database.kill()
    stack.database.start()


@pytest.mark.parametrize("restart", [pytest.param(stopped, marks=pytest.mark.slow), killed])
def test_a_job_goes_on_when_the_database_is_restarted(
    stack: Stack, model_bytes: bytes, dataset_bytes: bytes, restart: Callable[[Stack], None]
) -> None:
    service = stack.service
    job_id, before = at_work(service, model_bytes, dataset_bytes), pids(service)
    restart(stack)
    # Connections to the server that was are all dead, and no client is to notice.
    for _ in range(10):
        assert service.http.get(f"/api/v1/jobs/{job_id}").status_code in {200, 503}
    client = Client([service.url], "client")
    made = client.submit("linear", "fp16", options={"max_accuracy_drop": 1.0})
    assert made is not None
    assert service.finished(job_id)["attempts"] == 1
    assert service.finished(made)["state"] == "succeeded"
    assert pids(service) == before
    assert client.faults == []
    assert_whole(service)


@pytest.mark.slow
def test_while_the_database_is_away_models_are_served_and_all_else_is_told_to_come_again(
    stack: Stack, model_bytes: bytes, dataset_bytes: bytes
) -> None:
    service = stack.service
    job_id, before = at_work(service, model_bytes, dataset_bytes), pids(service)
    stack.database.stop()
    until = time.monotonic() + DATABASE_AWAY_SECONDS
    seen: set[tuple[str, int]] = set()
    while time.monotonic() < until:
        time.sleep(0.2)
        seen.add(("infer", asked(service)))
        for path in (
            "/api/v1/models",
            "/v2/health/live",
            "/v2/health/ready",
            "/metrics",
            "/",
        ):
            seen.add((path, service.http.get(path).status_code))
        for method in ("fp16", "nonsense"):
            answer = service.http.post("/api/v1/jobs", json={"model": "linear", "method": method})
            seen.add((method, answer.status_code))
            assert answer.status_code != 503 or answer.headers["Retry-After"]
    assert seen == {
        ("infer", 200), ("/v2/health/live", 200), ("/v2/health/ready", 200),
        ("/metrics", 200), ("/api/v1/models", 503), ("/", 503), ("fp16", 503), ("nonsense", 422),
    }  # fmt: skip
    stack.database.start()
    # The lease is over by then: another attempt makes the variant, or the first, where nobody has taken it.
    assert service.finished(job_id)["state"] == "succeeded"
    assert service.finished(service.submit(model="linear", method="fp16"))["state"] == "succeeded"
    assert pids(service) == before
    assert_whole(service)


def broken_off(stack: Stack) -> None:
    """A restart that loses all messages."""
    stack.broker.kill()
    stack.broker.start()


def away(stack: Stack) -> None:
    stack.broker.stop()
    time.sleep(BROKER_AWAY_SECONDS)
    stack.broker.start()


def flushed(stack: Stack) -> None:
    import redis

    redis.Redis.from_url(stack.broker.url).flushall()


@pytest.mark.parametrize(
    "fault", [broken_off, *(pytest.param(fault, marks=pytest.mark.slow) for fault in (away, flushed))]
)
def test_jobs_are_done_by_the_same_worker_after_the_broker_was_gone(
    stack: Stack, model_bytes: bytes, dataset_bytes: bytes, fault: Callable[[Stack], None]
) -> None:
    service = stack.service
    running, before = at_work(service, model_bytes, dataset_bytes), pids(service)
    waiting = service.submit(model="linear", method="fp16")
    fault(stack)
    later = service.submit(model="linear", method="dynamic", options={"max_accuracy_drop": 1.0})
    for job_id in (running, waiting, later):
        job = service.finished(job_id)
        assert (job["state"], job["attempts"]) == ("succeeded", 1)
    assert pids(service) == before
    assert_whole(service)
