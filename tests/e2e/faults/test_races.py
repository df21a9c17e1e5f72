"""Several workers that are told of the same job at once, and several clients that ask for the same thing at once."""

import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from celery import Celery

from app.housekeeping.doctor import examine
from app.queue import RUN_JOB
from tests import graphs
from tests.e2e.faults.whole import assert_whole, settings_of
from tests.e2e.service import Process, Service, eventually

SLOTS, MESSAGES = 2, 4
CLIENTS, ROUNDS = 8, 5


@pytest.fixture
def service(production: Service) -> Service:
    production.upload_model(graphs.linear_classifier().SerializeToString())
    return production


@pytest.fixture
def unmanned(service: Service) -> Iterator[Service]:
    """Without workers, until a test starts them."""
    without_workers(service)
    yield service
    without_workers(service)
    service.start("worker")


def without_workers(service: Service) -> None:
    for name in [name for name in service.processes if name.startswith("worker")]:
        # A worker that is still starting has no handler for the signal yet.
        assert service.processes.pop(name).end() in {0, -signal.SIGTERM}


def start_workers(service: Service, count: int) -> None:
    for number in range(count):
        name = f"worker{number}"
        command = ["worker", "--concurrency", str(SLOTS)]
        service.processes[name] = Process(command, service.environment, service.home.parent / f"{name}.log")


def send(service: Service, job_ids: list[str]) -> None:
    """Messages for each job straight to the broker, as if it had been announced several times."""
    with Celery("test") as celery:
        celery.conf.update(settings_of(service).celery)
        for _ in range(MESSAGES):
            for job_id in job_ids:
                celery.send_task(RUN_JOB, args=[job_id])


def at_once(asks: list[Callable[[], httpx.Response]]) -> list[httpx.Response]:
    """The answers to requests that start together, each from a client of its own."""
    answers: list[httpx.Response] = []
    barrier = threading.Barrier(len(asks))

    def run(ask: Callable[[], httpx.Response]) -> None:
        barrier.wait()
        answers.append(ask())

    threads = [threading.Thread(target=run, args=(ask,)) for ask in asks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == len(asks)
    return answers


def events(service: Service, job_id: str) -> list[str]:
    """The states that the job went through, in order; a change of its stage alone is none."""
    import psycopg

    with psycopg.connect(service.environment["OCTET_DATABASE_URL"]) as connection:
        rows = connection.execute(
            "SELECT state FROM job_events WHERE job_id = %s AND (state != 'running' OR stage = 'starting') ORDER BY id",
            [job_id],
        )
        return [row[0] for row in rows]


@pytest.mark.parametrize(("workers", "count"), [(2, 4), pytest.param(3, 30, marks=pytest.mark.slow)])
def test_of_workers_that_are_told_of_one_job_one_does_it(unmanned: Service, workers: int, count: int) -> None:
    service = unmanned
    methods = ("fp16", "dynamic")
    job_ids = [service.submit(method=methods[number % 2], variant=f"v{number}") for number in range(count)]
    send(service, job_ids)
    start_workers(service, workers)
    jobs = [service.finished(job_id) for job_id in job_ids]
    assert Counter((job["state"], job["attempts"]) for job in jobs) == {("succeeded", 1): count}
    for job_id in job_ids:
        assert events(service, job_id) == ["queued", "running", "succeeded"]
    assert set(service.variants()) == {"original", *(f"v{number}" for number in range(count))}
    assert_whole(service)


@pytest.mark.slow
def test_two_workers_with_one_folder_are_counted_as_two(unmanned: Service) -> None:
    service = unmanned
    start_workers(service, 2)

    def told() -> str:
        return next(finding.told for finding in examine(settings_of(service)) if finding.what == "workers")

    eventually(lambda: told() == f"2 alive, 0 of {2 * SLOTS} slots at work", what="two workers")
    # One that ends takes its own row along.
    assert service.processes.pop("worker1").end() == 0
    assert told() == f"1 alive, 0 of {SLOTS} slots at work"


def post(service: Service, body: dict[str, Any], key: str | None = None) -> Callable[[], httpx.Response]:
    headers = {"Idempotency-Key": key} if key is not None else {}
    asked = {"model": "model"} | body
    return lambda: httpx.post(f"{service.url}/api/v1/jobs", json=asked, headers=headers, timeout=60, verify=False)


def cancel(service: Service, answers: list[httpx.Response]) -> None:
    """What the jobs would make does not matter."""
    (job_id,) = {answer.json()["id"] for answer in answers if answer.is_success}
    assert service.http.delete(f"/api/v1/jobs/{job_id}").status_code == 202


def test_clients_that_ask_at_once_with_one_key_get_one_job(service: Service) -> None:
    for number in range(ROUNDS):
        body = {"method": "fp16", "variant": f"keyed{number}"}
        answers = at_once([post(service, body, f"key{number}") for _ in range(CLIENTS)])
        assert Counter(answer.status_code for answer in answers) == {202: CLIENTS}
        assert len({answer.json()["id"] for answer in answers}) == 1
        cancel(service, answers)
    assert_whole(service)


def test_of_clients_that_ask_at_once_for_one_variant_one_gets_it(service: Service) -> None:
    for number in range(ROUNDS):
        body = {"method": "fp16", "variant": f"wanted{number}"}
        answers = at_once([post(service, body) for _ in range(CLIENTS)])
        assert Counter(answer.status_code for answer in answers) == {202: 1, 409: CLIENTS - 1}
        cancel(service, answers)
    assert_whole(service)


def test_of_uploads_of_one_model_at_once_one_is_kept(service: Service) -> None:
    content = graphs.linear_classifier(seed=7).SerializeToString()

    def upload() -> httpx.Response:
        files = {"file": ("model.onnx", content)}
        return httpx.post(f"{service.url}/api/v1/models", files=files, data={"name": "twin"}, timeout=60)

    answers = at_once([upload] * CLIENTS)
    assert Counter(answer.status_code for answer in answers) == {201: 1, 200: CLIENTS - 1}
    assert service.http.get("/api/v1/models/twin").json()["revision"] == 1
    assert_whole(service)
