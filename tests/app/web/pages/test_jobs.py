"""The pages of jobs."""

import pytest
from fastapi.testclient import TestClient

from app.registry import Database, jobs
from app.settings import Settings
from tests.app.access.keyed import keyed_by
from tests.app.conftest import upload_model
from tests.app.web.markup import Page


@pytest.fixture
def job_id(client: TestClient) -> str:
    upload_model(client)
    answer = client.post("/api/v1/jobs", json={"model": "linear", "method": "dynamic"})
    assert answer.status_code == 202
    return str(answer.json()["id"])


def test_a_job_under_way_follows_its_events_and_can_be_cancelled(client: TestClient, job_id: str) -> None:
    answer = client.get(f"/jobs/{job_id}")
    shown = Page(answer.text)
    assert ("sse-connect", f"/api/v1/jobs/{job_id}/events") in shown.attributes
    assert ("data-api", f"DELETE /api/v1/jobs/{job_id}") in shown.attributes
    assert "progress" in shown.tags
    assert "HX-Trigger" not in answer.headers


def test_an_ended_job_follows_nothing_and_has_the_page_look_again(
    client: TestClient, job_id: str, settings: Settings
) -> None:
    database = Database(settings.registry_url)
    with database.writing() as session:
        lease = jobs.claim(session, job_id)
    assert lease is not None
    with database.writing() as session:
        jobs.fail(session, lease, "it <b>broke</b>")
    database.close()
    answer = client.get(f"/jobs/{job_id}")
    shown = Page(answer.text)
    assert answer.headers["HX-Trigger"] == "changed"
    assert "sse-connect" not in dict(shown.attributes)
    assert "it <b>broke</b>" in shown.text
    assert "b" not in shown.tags
    assert "/models/linear/quantize?method=dynamic" in shown.links


def test_no_more_streams_are_opened_than_a_browser_has_connections(client: TestClient) -> None:
    upload_model(client)
    for label in "abcdefgh":
        client.post("/api/v1/jobs", json={"model": "linear", "method": "dynamic", "variant": label})
    for path in ("/jobs", "/models/linear"):
        shown = Page(client.get(path).text)
        assert [name for name, _ in shown.attributes].count("sse-connect") == 3
        assert [value for name, value in shown.attributes if name == "hx-trigger"].count("every 2s") == 5


def test_jobs_are_shown_by_state(client: TestClient, job_id: str) -> None:
    client.delete(f"/api/v1/jobs/{job_id}")
    assert f"job-{job_id}" in client.get("/jobs?state=cancelled").text
    assert "None is queued." in client.get("/jobs?state=queued").text
    assert client.get("/jobs?state=lost").status_code == 422


def test_a_job_that_is_not_there_is_a_page(client: TestClient) -> None:
    assert client.get("/jobs/none").status_code == 404


@pytest.mark.parametrize("scope", ["read", "admin"])
def test_administrators_see_where_a_job_failed(client: TestClient, job_id: str, settings: Settings, scope: str) -> None:
    database = Database(settings.registry_url)
    with database.writing() as session:
        lease = jobs.claim(session, job_id)
    assert lease is not None
    with database.writing() as session:
        jobs.fail(session, lease, "broken", traceback="File <x>.py", log="last words")
    database.close()
    with keyed_by(client, settings) as keyed:
        shown = Page(keyed.send("GET", f"/jobs/{job_id}", keyed.make(scope)).text)
    assert "broken" in shown.text
    for secret in ("File <x>.py", "last words"):
        assert (secret in shown.text) == (scope == "admin")
