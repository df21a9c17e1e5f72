"""What clients over HTTP see of the time that their requests wait: where it went, and when it was not worth it."""

import re
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response

from tests.app.conftest import upload_model


@pytest.fixture(autouse=True)
def model(client: TestClient) -> None:
    upload_model(client)


def infer(client: TestClient, rows: int = 1, **parameters: Any) -> Response:
    tensor = {"name": "x", "shape": [rows, 16], "datatype": "FP32", "data": [0.5] * 16 * rows}
    return client.post("/v2/models/linear/infer", json={"inputs": [tensor], "parameters": parameters})


def test_each_answer_says_where_its_time_went(client: TestClient) -> None:
    timing = infer(client, rows=3).headers["Server-Timing"]
    assert re.fullmatch(r'queue;dur=\d+\.\d{3}, compute;dur=\d+\.\d{3}, batch;desc="3"', timing)


def test_a_timeout_that_cannot_be_met_is_refused_as_triton_does(client: TestClient) -> None:
    assert infer(client, timeout=60_000_000, priority=1).status_code == 200
    answer = infer(client, timeout=1)
    assert answer.status_code == 503
    assert answer.json() == {
        "error": "Request timeout expired: model 'linear' cannot answer within the request's 'timeout'"
    }
    assert int(answer.headers["Retry-After"]) > 0
    counted = client.get("/v2/models/linear/stats").json()["model_stats"][0]
    assert (counted["inference_count"], counted["inference_stats"]["fail"]["count"]) == (1, 1)


def test_no_timeout_is_for_as_long_as_it_takes(client: TestClient) -> None:
    assert infer(client, timeout=0, priority=0).status_code == 200
