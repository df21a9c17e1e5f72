import json
import threading
import time

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from app.blobs import open_store
from app.registry import Database, jobs
from app.registry.tables import Job
from app.settings import Settings
from tests.app.access.keyed import keyed_by
from tests.app.conftest import Kept, upload_dataset, upload_model


def _submit(client: TestClient, **wanted: object):  # type: ignore[no-untyped-def]
    return client.post("/api/v1/jobs", json={"model": "linear", "method": "dynamic"} | wanted)


def test_a_job_is_accepted_with_its_place(client: TestClient) -> None:
    upload_model(client)
    answer = _submit(client, variant="small", options={"per_channel": False})
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["Location"] == f"/api/v1/jobs/{job['id']}"
    assert (job["state"], job["variant"], job["version"], job["progress"]) == ("queued", "small", None, 0.0)
    assert job["options"]["per_channel"] is False
    assert job["options"]["evaluation_samples"] > 0
    assert client.get(f"/api/v1/jobs/{job['id']}").json()["id"] == job["id"]
    assert [row["id"] for row in client.get("/api/v1/jobs", params={"model": "linear"}).json()] == [job["id"]]
    assert client.get("/api/v1/jobs", params={"state": "failed"}).json() == []


@pytest.mark.parametrize(
    ("wanted", "status", "field", "words"),
    [
        ({"model": "nothing"}, 404, "model", "nothing"),
        ({"method": "int9"}, 422, "method", "int8"),
        ({"method": "mixed"}, 422, "dataset", "calibrates"),
        ({"method": "mixed", "options": {"point": "0" * 32}}, 404, "options.point", "points"),
        ({"method": "mixed", "options": {"point": "No such thing"}}, 404, "options.point", "points"),
        ({"method": "mixed", "options": {"point": 3}}, 422, "options.point", "string"),
        ({"options": {"point": "0" * 32}}, 422, "options.point", "dynamic"),
        ({"revision": 2}, 404, "revision", "2"),
        ({"revision": 0}, 422, "revision", "1"),
        ({"dataset": "nowhere"}, 404, "dataset", "nowhere"),
        ({"method": "int8"}, 422, "dataset", "calibrates"),
        ({"variant": "original"}, 422, None, "original"),
        ({"variant": "7"}, 422, None, "versions"),
        ({"variant": "No"}, 422, "variant", "a-z"),
        ({"options": {"per_chanel": True}}, 422, "options.per_chanel", "per_channel"),
        ({"options": {"per_channel": "maybe"}}, 422, "options.per_channel", "boolean"),
        ({"options": []}, 422, "options", "dict"),
        ({"colour": "red"}, 422, "colour", "not permitted"),
    ],
)
def test_a_wrong_request_is_named_and_leaves_nothing(
    client: TestClient, kept: Kept, wanted: dict[str, object], status: int, field: str | None, words: str
) -> None:
    upload_model(client)
    before = kept.now()
    answer = _submit(client, **wanted)
    assert answer.status_code == status
    assert answer.json().get("field") == field
    assert words in answer.json()["detail"]
    assert kept.now() == before


def test_the_same_idempotency_key_makes_one_job(client: TestClient) -> None:
    upload_model(client)
    wanted = {"model": "linear", "method": "fp16"}
    answers = [client.post("/api/v1/jobs", json=wanted, headers={"Idempotency-Key": "k"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 202]
    assert len({answer.json()["id"] for answer in answers}) == 1
    other = client.post("/api/v1/jobs", json=wanted | {"variant": "b"}, headers={"Idempotency-Key": "k"})
    assert other.status_code == 422
    assert "different request" in other.json()["detail"]


def test_a_lost_race_is_a_conflict_and_queues_nothing(
    client: TestClient, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_model(client)
    headers = {"Idempotency-Key": "k"}
    client.post("/api/v1/jobs", json={"model": "linear", "method": "fp16"}, headers=headers)
    before = kept.now()
    # As if the other request had committed after this one looked.
    monkeypatch.setattr(jobs, "remembered", lambda *_: None)
    answer = client.post("/api/v1/jobs", json={"model": "linear", "method": "dynamic"}, headers=headers)
    assert answer.status_code == 409
    assert "try again" in answer.json()["detail"]
    assert kept.now() == before


def test_of_concurrent_submissions_of_one_variant_one_is_accepted(client: TestClient) -> None:
    upload_model(client)
    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(_submit(client).status_code)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [202, 409, 409, 409, 409, 409]


def test_cancelling_twice_is_harmless_and_an_unknown_job_is_not_found(client: TestClient) -> None:
    upload_model(client)
    job = _submit(client).json()
    first = client.delete(f"/api/v1/jobs/{job['id']}")
    assert first.status_code == 202
    assert first.json()["state"] == "cancelled"
    assert client.delete(f"/api/v1/jobs/{job['id']}").status_code == 202
    assert client.delete("/api/v1/jobs/unknown").status_code == 404
    assert client.get("/api/v1/jobs/unknown/events").status_code == 404


def test_cancelling_a_job_that_was_to_go_on_from_a_checkpoint_removes_that(
    client: TestClient, settings: Settings, kept: Kept
) -> None:
    upload_model(client)
    job = _submit(client).json()
    blobs = kept.now()[1]
    weights = settings.scratch_folder / "weights"
    weights.write_bytes(b"weights")
    open_store(settings).put(weights, "c" * 64)
    database = Database(settings.registry_url)
    with database.writing() as session:
        session.execute(update(Job).values(checkpoint_digest="c" * 64))
    database.close()
    assert client.delete(f"/api/v1/jobs/{job['id']}").json()["state"] == "cancelled"
    assert kept.now()[1] == blobs


def test_events_follow_a_job_to_its_end_and_resume(client: TestClient, settings: Settings) -> None:
    upload_model(client)
    job = _submit(client).json()
    database = Database(settings.registry_url)

    def work() -> None:
        with database.writing() as session:
            lease = jobs.claim(session, job["id"])
        assert lease is not None
        time.sleep(0.5)
        with database.writing() as session:
            jobs.renew(session, lease, stage="quantize", progress=0.5, detail={"text": "trial 7"})
        with database.writing() as session:
            jobs.fail(session, lease, "no luck")

    worker = threading.Thread(target=work)
    worker.start()
    events = _read_events(client.get(f"/api/v1/jobs/{job['id']}/events").text)
    worker.join()
    database.close()
    assert [(event["data"]["state"], event["data"]["progress"]) for event in events] == [
        ("queued", 0.0),
        ("running", 0.0),
        ("running", 0.5),
        ("failed", 0.5),
    ]
    assert events[-1]["data"]["error"] == "no luck"
    assert [event["data"]["detail"] for event in events] == [None, None, {"text": "trial 7"}, {"text": "trial 7"}]
    assert client.get(f"/api/v1/jobs/{job['id']}").json()["detail"] == {"text": "trial 7"}
    resumed = client.get(f"/api/v1/jobs/{job['id']}/events", headers={"Last-Event-ID": str(events[1]["id"])})
    assert _read_events(resumed.text) == events[2:]
    assert client.get(f"/api/v1/jobs/{job['id']}/events", headers={"Last-Event-ID": "x"}).status_code == 422


def _read_events(text: str) -> list[dict[str, object]]:
    events = []
    for block in text.replace("\r\n", "\n").strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
        if "data" in fields:
            events.append({"id": int(fields["id"]), "data": json.loads(fields["data"])})
    return events


def test_a_dataset_in_use_is_not_deleted(client: TestClient) -> None:
    upload_dataset(client)
    upload_model(client)
    job = _submit(client, method="int8", dataset="samples").json()
    refusal = client.delete("/api/v1/datasets/samples")
    assert refusal.status_code == 409
    assert job["id"] in refusal.json()["detail"]
    client.delete(f"/api/v1/jobs/{job['id']}")
    assert client.delete("/api/v1/datasets/samples").status_code == 204
    assert client.get(f"/api/v1/jobs/{job['id']}").json()["dataset"] == "samples"


@pytest.mark.parametrize("body", [b"\xff", b'{"model": "\xff"}', b"{", b"[]", b""])
def test_a_body_that_is_no_json_object_is_refused_as_other_wrong_ones_are(client: TestClient, body: bytes) -> None:
    answer = client.post("/api/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.headers["Content-Type"]) == (422, "application/problem+json")


@pytest.mark.parametrize("scope", ["read", "write", "admin"])
def test_only_administrators_are_told_where_a_job_failed(
    client: TestClient, registry: Database, settings: Settings, scope: str
) -> None:
    job_id = _submit(client, variant="small").json()["id"]
    with registry.writing() as session:
        lease = jobs.claim(session, job_id)
    assert lease is not None
    with registry.writing() as session:
        jobs.fail(session, lease, "broken", traceback="Traceback", log="last words")
    with keyed_by(client, settings) as keyed:
        key = keyed.make(scope)
        job = keyed.send("GET", f"/api/v1/jobs/{job_id}", key).json()
        listed = keyed.send("GET", "/api/v1/jobs", key).json()
    assert job["error"] == "broken"
    assert all("failures" not in row for row in listed)
    if scope != "admin":
        assert job["failures"] is None
        return
    (failure,) = job["failures"]
    assert failure.pop("at")
    assert failure == {"attempt": 1, "error": "broken", "traceback": "Traceback", "log": "last words"}
