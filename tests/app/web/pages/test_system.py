"""The page of the system."""

from fastapi.testclient import TestClient

from app.registry import Database, workers
from app.settings import Settings
from tests.app.conftest import upload_model
from tests.app.web.markup import Page


def ask(client: TestClient, **changes: object) -> int:
    tensor = {"name": "x", "shape": [1, 16], "datatype": "FP32", "data": [0.5] * 16} | changes
    return client.post("/v2/models/linear/versions/original/infer", json={"inputs": [tensor]}).status_code


def test_nothing_is_loaded_before_the_first_request(client: TestClient) -> None:
    upload_model(client)
    shown = Page(client.get("/system").text)
    assert "Nothing is loaded" in shown.text
    assert "No worker is alive" in shown.text
    assert "No job runs or waits" in shown.text


def test_what_is_loaded_is_shown_with_its_requests(client: TestClient) -> None:
    upload_model(client)
    assert [ask(client) for _ in range(5)] == [200] * 5
    (served, *_) = Page(client.get("/system").text).tables
    (cells,) = served.rows[1:]
    assert cells[0].strip() == "linear"
    assert cells[1].startswith("original")
    assert "B" in cells[2]
    assert cells[4:6] == ["5", "0"]
    assert all(cell.endswith("ms") for cell in cells[6:])


def test_a_variant_that_was_unloaded_keeps_its_counts(client: TestClient) -> None:
    upload_model(client)
    assert ask(client) == 200
    assert client.post("/v2/repository/models/linear/unload", json={}).status_code == 200
    (served, *_) = Page(client.get("/system").text).tables
    assert served.rows[1][2] == "not in memory"
    assert served.rows[1][4] == "1"


def test_workers_and_what_waits_are_shown(client: TestClient, settings: Settings) -> None:
    upload_model(client, quantize="dynamic")
    database = Database(settings.registry_url)
    with database.writing() as session:
        workers.beat(session, "<b>here</b>:/home", concurrency=2, running=1, forget_after_seconds=60)
    database.close()
    shown = Page(client.get("/system").text)
    assert any(cells[:2] == ["<b>here</b>:/home", "1 of 2"] for table in shown.tables for cells in table.rows)
    assert any(cells[0] == "dynamic of linear" for table in shown.tables for cells in table.rows)


def test_secrets_of_addresses_are_not_told(client: TestClient, settings: Settings) -> None:
    shown = Page(client.get("/system").text)
    assert "SQLite" in shown.text
    assert settings.registry_url not in shown.text
