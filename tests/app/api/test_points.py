"""The points of a search over HTTP, and the jobs that make variants of them."""

from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.registry import Database, jobs
from app.registry.results import NewArtifact
from app.settings import Settings
from tests import graphs
from tests.app.conftest import Kept, npz_bytes, onnx_bytes, upload_dataset, upload_model
from tests.app.registry.test_jobs import OUTCOME
from tests.app.registry.test_points import FOUND

POINTS = "/api/v1/models/linear/points"


def search(client: TestClient, settings: Settings, **options: object) -> dict[str, Any]:
    """A job `mixed` that was done by a worker of the test's own and found `FOUND`."""
    wanted = {"model": "linear", "method": "mixed", "dataset": "samples", "options": options}
    job = client.post("/api/v1/jobs", json=wanted)
    assert job.status_code == 202, job.text
    done(settings, job.json()["id"])
    return dict(job.json())


def done(settings: Settings, job_id: str) -> None:
    database = Database(settings.registry_url)
    with database.writing() as session:
        lease = jobs.claim(session, job_id)
    assert lease is not None
    with database.writing() as session:
        artifact = NewArtifact(digest="e" * 64, data_digest=None, data_name=None, size_bytes=260)
        jobs.succeed(session, lease, artifact, OUTCOME.model_copy(update={"points": FOUND}))
    database.close()


def make(client: TestClient, point: str, *, model: str = "linear", **wanted: Any):  # type: ignore[no-untyped-def]
    options = {"point": point} | wanted.pop("options", {})
    return client.post("/api/v1/jobs", json={"model": model, "method": "mixed", "options": options} | wanted)


@pytest.fixture
def searched(client: TestClient, settings: Settings) -> dict[str, Any]:
    """The search on model `linear`, with samples and options of its own."""
    upload_dataset(client)
    upload_model(client)
    return search(client, settings, seed=3, max_accuracy_drop=0.02)


def test_points_are_listed_with_what_they_are_made_by(client: TestClient, searched: dict[str, Any]) -> None:
    listed = client.get(POINTS).json()
    assert [(point["number"], point["kept"], point["chosen"]) for point in listed] == [
        (number, figures.kept, figures.chosen) for number, figures in enumerate(FOUND, start=1)
    ]
    second = listed[1]
    assert (second["accuracy"], second["agreement"], second["speedup"]) == (0.89, 0.99, 1.6)
    assert second["size_bytes"] == 3_000_000_000
    assert second["size_ratio"] == 3_000_000_000 / len(onnx_bytes())
    assert (second["job"], second["variant"], second["revision"]) == (searched["id"], "mixed", 1)
    assert second["options"] == searched["options"]
    assert listed[2]["accuracy"] is None
    assert client.get(POINTS, params={"revision": 1}).json() == listed


@pytest.mark.parametrize(
    ("url", "status", "field"),
    [
        ("/api/v1/models/nobody/points", 404, "model"),
        (f"{POINTS}?revision=2", 404, "revision"),
        (f"{POINTS}?revision=0", 422, "revision"),
    ],
)
def test_points_of_what_is_not_there(
    client: TestClient, searched: dict[str, Any], url: str, status: int, field: str
) -> None:
    answer = client.get(url)
    assert (answer.status_code, answer.json()["field"]) == (status, field)


def test_a_model_that_was_never_searched_has_none(client: TestClient) -> None:
    upload_model(client)
    assert client.get(POINTS).json() == []


def test_a_point_is_made_with_the_options_and_samples_of_its_search(
    client: TestClient, searched: dict[str, Any]
) -> None:
    point = client.get(POINTS).json()[2]["id"]
    job = make(client, point)
    assert job.status_code == 202, job.text
    assert job.json()["options"] == searched["options"] | {"point": point}
    assert (job.json()["dataset"], job.json()["variant"]) == ("samples", "mixed-p3")
    assert make(client, point).json()["variant"] == "mixed-p3-2"


def test_what_the_client_names_holds(client: TestClient, searched: dict[str, Any]) -> None:
    upload_dataset(client, npz_bytes(x=np.ones((8, 16), np.float32)), name="others")
    point = client.get(POINTS).json()[0]["id"]
    job = make(client, point, dataset="others", variant="fast", options={"seed": 9}).json()
    assert job["options"] == searched["options"] | {"point": point, "seed": 9}
    assert (job["dataset"], job["variant"]) == ("others", "fast")
    again = make(client, point, variant="fast")
    assert (again.status_code, again.json()["field"]) == (409, "variant")


def test_a_point_of_another_model_or_revision_is_refused(
    client: TestClient, searched: dict[str, Any], kept: Kept
) -> None:
    upload_model(client, name="other")
    point = client.get(POINTS).json()[0]["id"]
    upload_model(client, onnx_bytes(graphs.linear_classifier(seed=5)))
    before = kept.now()
    for answer in (make(client, point, model="other"), make(client, point), make(client, point, revision=2)):
        assert answer.status_code == 422
        assert answer.json()["field"] == "options.point"
        assert "revision 1 of 'linear'" in answer.json()["detail"]
    assert kept.now() == before
    assert make(client, point, revision=1).status_code == 202


def test_a_search_whose_samples_are_gone_says_so(client: TestClient, searched: dict[str, Any]) -> None:
    point = client.get(POINTS).json()[0]["id"]
    assert client.delete("/api/v1/datasets/samples").status_code == 204
    answer = make(client, point)
    assert (answer.status_code, answer.json()["field"]) == (404, "dataset")
    assert "'samples'" in answer.json()["detail"]


def test_the_points_of_a_deleted_model_are_gone(client: TestClient, settings: Settings, kept: Kept) -> None:
    upload_dataset(client)
    before = kept.now()
    upload_model(client)
    search(client, settings)
    assert kept.now() != before
    assert client.delete("/api/v1/models/linear").status_code == 204
    assert kept.now() == before


def test_an_idempotency_key_makes_one_job_of_a_point(client: TestClient, searched: dict[str, Any]) -> None:
    point = client.get(POINTS).json()[0]["id"]
    wanted = {"model": "linear", "method": "mixed", "options": {"point": point}}
    answers = [client.post("/api/v1/jobs", json=wanted, headers={"Idempotency-Key": "k"}) for _ in range(3)]
    assert len({answer.json()["id"] for answer in answers}) == 1
