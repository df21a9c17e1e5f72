"""A variant that broke its budget serves only after someone said so."""

import json

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.registry import Database, models, variants
from app.registry.tables import Variant
from app.settings import Settings
from tests.app.conftest import upload_model

REASON = "top-1 fell from 84% to 80%"
INPUT = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16], "data": np.zeros(16).tolist()}]}
OVERRIDE = "/api/v1/models/linear/variants/int8/override"


@pytest.fixture
def rejected(client: TestClient, settings: Settings) -> TestClient:
    """A gateway with model `linear`, whose variant `int8` was rejected."""
    upload_model(client)
    database = Database(settings.registry_url)
    with database.writing() as session:
        model = models.find(session, "linear")
        original = variants.find(session, model, "original")
        session.add(
            Variant(
                model_id=model.id,
                revision=original.revision,
                label="int8",
                version=models.take_version(session, model),
                method="int8",
                options={},
                state="ready",
                verdict="rejected",
                reasons=[REASON],
                batchable=False,
                engine=original.engine,
                digest=original.digest,
                size_bytes=original.size_bytes,
            )
        )
    database.close()
    return client


def _answers(client: TestClient, path: str = "/versions/int8") -> int:
    return int(client.post(f"/v2/models/linear{path}/infer", json=INPUT).status_code)


def test_the_comparison_says_why(rejected: TestClient) -> None:
    row = rejected.get("/api/v1/models/linear/variants/int8").json()
    assert row["verdict"] == "rejected"
    assert row["reasons"] == [REASON]
    assert row["overridden"] is False
    assert row["batchable"] is False
    assert row == rejected.get("/api/v1/models/linear/variants").json()[1] | {"options": {}}


@pytest.mark.parametrize("name", ["/versions/int8/infer", "/versions/2/infer", "@int8/infer"])
def test_it_does_not_answer_and_says_what_to_do(rejected: TestClient, name: str) -> None:
    answer = rejected.post(f"/v2/models/linear{name}", json=INPUT)
    assert answer.status_code == 409
    assert REASON in answer.json()["error"]
    assert OVERRIDE in answer.json()["error"]


def test_it_is_not_ready_and_the_others_are(rejected: TestClient) -> None:
    assert rejected.get("/v2/models/linear/versions/int8/ready").status_code == 409
    assert rejected.get("/v2/models/linear/ready").status_code == 200
    rows = rejected.post("/v2/repository/index").json()
    assert [(row["version"], row["state"]) for row in rows] == [("1", "READY"), ("2", "UNAVAILABLE")]
    assert REASON in rows[1]["reason"]
    ready = rejected.post("/v2/repository/index", content=json.dumps({"ready": True})).json()
    assert [row["version"] for row in ready] == ["1"]


def test_an_override_lets_it_serve_and_can_be_taken_back(rejected: TestClient) -> None:
    for _ in range(2):
        row = rejected.put(OVERRIDE)
        assert row.status_code == 200
        assert (row.json()["verdict"], row.json()["overridden"]) == ("rejected", True)
    assert _answers(rejected) == 200
    for _ in range(2):
        assert rejected.delete(OVERRIDE).json()["overridden"] is False
    assert _answers(rejected) == 409


def test_it_becomes_the_default_only_by_an_override(rejected: TestClient) -> None:
    refused = rejected.put("/api/v1/models/linear/default", json={"variant": "int8"})
    assert refused.status_code == 409
    assert REASON in refused.json()["detail"]
    assert _answers(rejected, "") == 200
    chosen = rejected.put("/api/v1/models/linear/default", json={"variant": "int8", "override": True})
    assert chosen.json() == {"model": "linear", "variant": "int8", "version": 2}
    answer = rejected.post("/v2/models/linear/infer", json=INPUT)
    assert (answer.status_code, answer.headers["X-Model-Variant"]) == (200, "int8")


def test_the_override_of_the_default_stays_as_long_as_it_is_that(rejected: TestClient) -> None:
    rejected.put("/api/v1/models/linear/default", json={"variant": "int8", "override": True})
    refused = rejected.delete(OVERRIDE)
    assert refused.status_code == 409
    assert "default" in refused.json()["detail"]
    rejected.put("/api/v1/models/linear/default", json={"variant": "original"})
    assert rejected.delete(OVERRIDE).status_code == 200


def test_a_variant_that_may_serve_anyway_stays_as_it_is(rejected: TestClient) -> None:
    row = rejected.put("/api/v1/models/linear/variants/original/override").json()
    assert (row["verdict"], row["overridden"]) == (None, False)
    rejected.put("/api/v1/models/linear/default", json={"variant": "original", "override": True})
    assert rejected.delete("/api/v1/models/linear/variants/original/override").status_code == 200


@pytest.mark.parametrize("path", ["linear/variants/int9", "nobody/variants/int8", "linear/variants/-1"])
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_what_does_not_exist_cannot_be_overridden(rejected: TestClient, path: str, method: str) -> None:
    assert rejected.request(method, f"/api/v1/models/{path}/override").status_code == 404


@pytest.mark.parametrize(
    "body", [{}, {"variant": "int8", "override": "perhaps"}, {"variant": "int8", "force": True}], ids=str
)
def test_a_wrong_choice_of_default_changes_nothing(rejected: TestClient, body: dict[str, object]) -> None:
    assert rejected.put("/api/v1/models/linear/default", json=body).status_code == 422
    assert rejected.get("/api/v1/models/linear").json()["default_variant"] == "original"


def test_the_dashboard_marks_it(rejected: TestClient) -> None:
    assert "rejected" in rejected.get("/models/linear", headers={"Accept": "text/html"}).text
    rejected.put(OVERRIDE)
    assert "rejected, serves all the same" in rejected.get("/models/linear", headers={"Accept": "text/html"}).text
