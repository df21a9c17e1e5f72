"""Uploads that another tool has quantized: served and evaluated as they are, and not quantized again."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.contracts.figures import Figures
from app.contracts.outcome import Outcome, SequenceAxes
from app.inference.served_variant import resolve
from app.registry import Database, jobs
from app.serving.padding import Padding
from app.settings import Settings
from tests import graphs
from tests.app.conftest import Kept, onnx_bytes, upload_dataset, upload_model

QUANTIZED = onnx_bytes(graphs.quantized_classifier())

MEASURED = Outcome(
    artifact=None,
    engine="onnxruntime",
    verdict=None,
    batchable=False,
    samples=64,
    original=Figures(accuracy=0.75, latency_p50_ms=2.0, latency_p95_ms=2.5, latency_p99_ms=3.0),
    variant=Figures(),
    report={"quality": {"accuracy": 0.75}, "notes": ["a note"]},
)


def submit(client: TestClient, method: str, **wanted: Any):  # type: ignore[no-untyped-def]
    return client.post("/api/v1/jobs", json={"model": "linear", "method": method} | wanted)


def done(settings: Settings, job_id: str, outcome: Outcome = MEASURED) -> None:
    """By a worker of the test's own."""
    database = Database(settings.registry_url)
    with database.writing() as session:
        lease = jobs.claim(session, job_id)
    assert lease is not None
    with database.writing() as session:
        jobs.succeed(session, lease, None, outcome)
    database.close()


def padding(settings: Settings) -> Padding | None:
    """How sequences are padded that share a batch."""
    database = Database(settings.registry_url)
    served = resolve(database, "linear")
    database.close()
    return served.padding


def may_be_batched(settings: Settings) -> bool:
    database = Database(settings.registry_url)
    served = resolve(database, "linear")
    database.close()
    return served.batchable


def test_it_is_recognised_and_served_as_it_is(client: TestClient, settings: Settings) -> None:
    assert upload_model(client, QUANTIZED).json()["quantized"] is True
    assert client.get("/api/v1/models/linear").json()["quantized"] is True
    assert client.get("/api/v1/models").json()[0]["quantized"] is True
    request = {"inputs": [{"name": "x", "shape": [1, 16], "datatype": "FP32", "data": [0.5] * 16}]}
    assert client.post("/v2/models/linear/infer", json=request).status_code == 200
    assert upload_model(client, name="plain").json()["quantized"] is False


@pytest.mark.parametrize("method", ["int8", "dynamic", "int4", "mixed", "qat"])
def test_what_starts_from_fp32_is_refused_with_what_would_be_right(client: TestClient, kept: Kept, method: str) -> None:
    upload_dataset(client)
    upload_model(client, QUANTIZED)
    before = kept.now()
    answer = submit(client, method, dataset="samples")
    assert (answer.status_code, answer.json()["field"]) == (409, "method")
    for words in ("DequantizeLinear, QuantizeLinear", f"'{method}'", "FP32 model", "evaluate"):
        assert words in answer.json()["detail"]
    assert kept.now() == before


def test_an_upload_that_asks_for_what_cannot_be_leaves_nothing(client: TestClient, kept: Kept) -> None:
    upload_dataset(client)
    before = kept.now()
    assert upload_model(client, QUANTIZED, quantize="fp16,int8", dataset="samples").status_code == 409
    assert kept.now() == before


def test_fp32_weights_that_it_has_may_be_stored_in_half(client: TestClient) -> None:
    upload_model(client, QUANTIZED)
    assert submit(client, "fp16").status_code == 202


def test_an_evaluation_is_kept_as_that_of_the_original(client: TestClient, settings: Settings, kept: Kept) -> None:
    upload_dataset(client)
    upload_model(client, QUANTIZED)
    blobs = kept.now()[1]
    job = submit(client, "evaluate", dataset="samples", options={"evaluation_samples": 64}).json()
    assert (job["variant"], job["version"]) == ("original", None)
    assert job["options"] == {"evaluation_samples": 64, "seed": 0}
    done(settings, job["id"])
    job = client.get(f"/api/v1/jobs/{job['id']}").json()
    assert (job["state"], job["variant"], job["version"]) == ("succeeded", "original", 1)
    (row,) = client.get("/api/v1/models/linear/variants").json()
    assert (row["variant"], row["verdict"], row["default"]) == ("original", None, True)
    assert (row["accuracy"], row["samples"], row["dataset"]) == (0.75, 64, "samples")
    assert row["latency_ms"] == {"p50": 2.0, "p95": 2.5, "p99": 3.0}
    assert (row["agreement"], row["speedup"], row["batchable"]) == (None, None, False)
    report = client.get("/api/v1/models/linear/variants/original/report")
    assert report.json()["report"] == {"quality": {"accuracy": 0.75}, "notes": ["a note"], "layers": []}
    page = client.get("/api/v1/models/linear/variants/original/report", headers={"Accept": "text/html"})
    assert "a note" in page.text
    assert kept.now()[1] == blobs


def test_it_takes_fp32_models_too_and_one_evaluation_at_a_time(client: TestClient, settings: Settings) -> None:
    upload_model(client)
    first = submit(client, "evaluate")
    assert first.status_code == 202
    again = submit(client, "evaluate", variant="original")
    assert (again.status_code, again.json()["field"]) == (409, "method")
    assert first.json()["id"] in again.json()["detail"]
    assert submit(client, "fp16").status_code == 202
    done(settings, first.json()["id"])
    assert submit(client, "evaluate", variant="original").status_code == 202


def test_an_evaluation_makes_no_variant_that_could_be_named(client: TestClient) -> None:
    upload_model(client)
    answer = submit(client, "evaluate", variant="measured")
    assert (answer.status_code, answer.json()["field"]) == (422, "variant")
    assert "original" in answer.json()["detail"]
    answer = submit(client, "evaluate", options={"max_accuracy_drop": 0.1})
    assert (answer.status_code, answer.json()["field"]) == (422, "options.max_accuracy_drop")


def test_an_upload_is_evaluated_once(client: TestClient, settings: Settings) -> None:
    upload_dataset(client)
    (job,) = upload_model(client, QUANTIZED, quantize="evaluate", dataset="samples").json()["jobs"]
    assert (job["method"], job["variant"], job["dataset"]) == ("evaluate", "original", "samples")
    for _ in range(2):
        again = upload_model(client, QUANTIZED, quantize="evaluate", dataset="samples")
        assert (again.status_code, [row["id"] for row in again.json()["jobs"]]) == (200, [job["id"]])
        if client.get(f"/api/v1/jobs/{job['id']}").json()["state"] == "queued":
            done(settings, job["id"])


def test_an_evaluation_without_samples_does_not_replace_one_with(client: TestClient, settings: Settings) -> None:
    upload_dataset(client)
    upload_model(client)
    done(settings, submit(client, "evaluate", dataset="samples").json()["id"])
    without = MEASURED.model_copy(update={"samples": 0, "original": Figures(latency_p50_ms=9.0), "batchable": None})
    done(settings, submit(client, "evaluate").json()["id"], without)
    (row,) = client.get("/api/v1/models/linear/variants").json()
    assert (row["accuracy"], row["batchable"]) == (0.75, False)


def test_requests_to_it_share_a_batch_only_where_that_was_tested(client: TestClient, settings: Settings) -> None:
    upload_model(client, QUANTIZED)
    assert may_be_batched(settings) is False
    done(settings, submit(client, "evaluate").json()["id"], MEASURED.model_copy(update={"batchable": True}))
    assert may_be_batched(settings) is True
    client.delete("/api/v1/models/linear")
    upload_model(client)
    assert may_be_batched(settings) is True
    done(settings, submit(client, "evaluate").json()["id"])
    assert may_be_batched(settings) is False


def test_sequences_are_padded_only_where_that_was_proved(client: TestClient, settings: Settings) -> None:
    upload_model(client)
    axes = SequenceAxes(inputs={"x": 1}, outputs={"logits": 1})
    for batchable, proved, expected in (
        (True, axes, Padding((("x", 1),), (("logits", 1),))),
        (False, axes, None),
        (True, None, None),
    ):
        measured = MEASURED.model_copy(update={"batchable": batchable, "padding": proved})
        done(settings, submit(client, "evaluate").json()["id"], measured)
        assert padding(settings) == expected
        (row,) = client.get("/api/v1/models/linear/variants").json()
        assert row["paddable"] is (expected is not None)
