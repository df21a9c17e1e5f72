"""The page of datasets."""

from fastapi.testclient import TestClient

from tests.app.conftest import upload_dataset
from tests.app.web.markup import Page


def test_a_dataset_is_a_row(client: TestClient) -> None:
    assert upload_dataset(client).status_code == 201
    kept = client.get("/api/v1/datasets/samples").json()
    shown = Page(client.get("/datasets").text)
    row = shown.tables[0].rows[1]
    assert row[:2] == ["samples", f"{kept['samples']:,}"]
    assert all(array["name"] in row[2] for array in kept["arrays"])
    assert "labelled" in row[3]
    assert ("data-api", "DELETE /api/v1/datasets/samples") in shown.attributes


def test_without_datasets_the_page_says_what_they_are_for(client: TestClient) -> None:
    shown = Page(client.get("/datasets").text)
    assert "No dataset yet" in shown.text
    assert ("data-api", "POST /api/v1/datasets") in shown.attributes
