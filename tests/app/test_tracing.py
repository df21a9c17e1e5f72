"""Spans, as a collector would get them."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app import main, tracing
from app.errors import Unavailable
from app.settings import Settings
from tests import registries
from tests.app.conftest import upload_model

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(main, "Tracing", lambda: tracing.Tracing(SimpleSpanProcessor(exporter)))
    return exporter


@pytest.fixture
def client(settings: Settings, spans: InMemorySpanExporter) -> Iterator[TestClient]:
    settings = settings.model_copy(update={"tracing": True})
    settings.make_folders()
    registries.migrate(settings.registry_url)
    with TestClient(main.create_app(settings), base_url="http://localhost") as client:
        yield client


def test_an_inference_is_a_span_of_the_clients_trace_with_its_waiting_and_computing_below(
    client: TestClient, spans: InMemorySpanExporter
) -> None:
    upload_model(client)
    spans.clear()
    body = {"inputs": [{"name": "x", "shape": [1, 16], "datatype": "FP32", "data": [0.5] * 16}]}
    headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    assert client.post("/v2/models/linear/infer", json=body, headers=headers).status_code == 200
    found: dict[str, ReadableSpan] = {span.name: span for span in spans.get_finished_spans()}
    (request,) = (span for name, span in found.items() if name.startswith("POST"))
    queue, compute = found["queue"], found["compute"]
    for span in (request, queue, compute):
        assert span.context is not None
        assert f"{span.context.trace_id:032x}" == TRACE
    for part in (queue, compute):
        assert part.parent == request.context
        assert part.attributes is not None
        assert (part.attributes["octet.model"], part.attributes["octet.variant"]) == ("linear", "original")
        assert part.attributes["octet.batch_rows"] == 1
    assert queue.start_time is not None
    assert queue.start_time <= (queue.end_time or 0) == compute.start_time < (compute.end_time or 0)


def test_who_watches_the_service_leaves_no_trace(client: TestClient, spans: InMemorySpanExporter) -> None:
    for path in ("/v2/health/ready", "/v2/health/live", "/metrics"):
        assert client.get(path).status_code == 200
    assert not spans.get_finished_spans()
    client.get("/v2")
    assert spans.get_finished_spans()


def test_without_the_extra_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(Unavailable, match=r"octet\[otel\]"):
        tracing.Tracing()
