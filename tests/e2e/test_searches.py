"""Searches, training and evaluations, from their request to what is served."""

import importlib.util
import json
from typing import Any

import httpx
import psutil
import pytest

from app.registry import Database
from app.registry.tables import Job
from tests import graphs
from tests.e2e.conftest import npz
from tests.e2e.faults.test_processes import CHILD, WORKER, find, prepare
from tests.e2e.faults.whole import settings_of
from tests.e2e.service import Service, eventually
from tests.servers import missing


def events_of(service: Service, job_id: str) -> list[dict[str, Any]]:
    """All that is told of a job, until it ends."""
    told = []
    with httpx.stream("GET", f"{service.url}/api/v1/jobs/{job_id}/events", timeout=120) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                told.append(json.loads(line.removeprefix("data: ")))
    return told


def blobs(service: Service) -> int:
    return sum(path.is_file() for path in (service.home / "blobs").rglob("*"))


def has_checkpoint(service: Service, job_id: str) -> bool:
    """Whether the registry names one: its blob is there before a next attempt would find it."""
    database = Database(settings_of(service).registry_url)
    try:
        with database.reading() as session:
            return session.get_one(Job, job_id).checkpoint_digest is not None
    finally:
        database.close()


@pytest.mark.parametrize("service", ["embedded", pytest.param("production", marks=pytest.mark.slow)], indirect=True)
def test_a_search_tells_of_its_trials_and_any_of_its_points_becomes_a_variant(
    service: Service, model_bytes: bytes, dataset_bytes: bytes
) -> None:
    prepare(service, model_bytes, dataset_bytes)
    job_id = service.submit(method="mixed", dataset="samples", options={"max_seconds": 8, "max_accuracy_drop": 0.5})
    told = events_of(service, job_id)
    assert told[-1]["state"] == "succeeded", told[-1]
    assert any(event["stage"] == "search" and event["detail"]["text"] for event in told)
    points = service.http.get("/api/v1/models/model/points").json()
    assert [point["number"] for point in points] == list(range(1, len(points) + 1))
    assert sum(point["chosen"] for point in points) == 1
    point = points[-1]
    assert (point["job"], point["dataset"]) == (job_id, "samples")
    made = service.finished(service.submit(method="mixed", options={"point": point["id"]}))
    assert (made["state"], made["variant"]) == ("succeeded", f"mixed-p{point['number']}"), made
    assert made["options"]["max_accuracy_drop"] == 0.5
    assert {"original", "mixed", made["variant"]} == set(service.variants())
    assert service.http.delete("/api/v1/models/model").status_code == 204
    assert service.http.get("/api/v1/models/model/points").status_code == 404


def test_an_upload_that_is_quantized_already_is_served_and_evaluated_as_it_is(embedded: Service) -> None:
    embedded.upload_dataset(npz(**graphs.labelled_samples()))
    model = embedded.upload_model(graphs.quantized_classifier().SerializeToString())
    assert model["quantized"] is True
    refused = embedded.http.post("/api/v1/jobs", json={"model": "model", "method": "int8", "dataset": "samples"})
    assert refused.status_code == 409
    job = embedded.finished(embedded.submit(method="evaluate", dataset="samples"))
    assert (job["state"], job["variant"], job["version"]) == ("succeeded", "original", 1), job
    (row,) = embedded.variants().values()
    assert row["samples"] == 64
    assert 0 <= row["accuracy"] <= 1
    assert row["latency_ms"]["p50"] > 0
    page = embedded.http.get("/api/v1/models/model/variants/original/report", headers={"Accept": "text/html"})
    assert page.status_code == 200
    request = {"inputs": [{"name": "x", "shape": [1, 16], "datatype": "FP32", "data": [0.5] * 16}]}
    assert embedded.http.post("/v2/models/model/infer", json=request).status_code == 200


@pytest.mark.slow
def test_training_goes_on_where_it_was_when_its_worker_was_killed(
    embedded: Service, model_bytes: bytes, dataset_bytes: bytes
) -> None:
    if importlib.util.find_spec("torch") is None:
        missing("torch")
    prepare(embedded, model_bytes, dataset_bytes)
    options = {"epochs": 1000, "max_seconds": 20, "repair": False, "max_accuracy_drop": 0.5}
    job_id = embedded.submit(method="qat", dataset="samples", options=options)
    eventually(lambda: has_checkpoint(embedded, job_id), what="a checkpoint")
    child, worker = find(embedded, CHILD), find(embedded, WORKER)
    assert child is not None
    assert worker is not None
    worker.kill()
    eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, what="the child's end")
    told = events_of(embedded, job_id)
    assert (told[-1]["state"], told[-1]["attempts"]) == ("succeeded", 2), told[-1]
    epochs = {
        attempt: [
            event["detail"]["epoch"] for event in told if event["attempts"] == attempt and event["stage"] == "train"
        ]
        for attempt in (1, 2)
    }
    assert epochs[1][0] < epochs[2][0], "the second attempt began anew"
    assert set(embedded.variants()) == {"original", "qat"}
    eventually(lambda: blobs(embedded) == 3, what="the end of all checkpoints")
    eventually(lambda: embedded.leftovers() == [], what="an empty scratch folder")
