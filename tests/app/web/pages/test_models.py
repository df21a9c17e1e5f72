"""The page at `/`."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, event

from app.registry import Database
from app.settings import Settings
from tests.app.conftest import upload_dataset, upload_model
from tests.app.web.crowd import add_models
from tests.app.web.markup import Page


@pytest.fixture
def database(client: TestClient, settings: Settings) -> Iterator[Database]:
    database = Database(settings.registry_url)
    yield database
    database.close()


@contextmanager
def counted() -> Iterator[list[str]]:
    """The queries that requests make meanwhile, of any engine."""
    made: list[str] = []

    def note(*arguments: object) -> None:
        # The gateway's own threads look into the registry every so often.
        if threading.current_thread().name.startswith("AnyIO"):
            made.append(str(arguments[2]))

    event.listen(Engine, "before_cursor_execute", note)
    yield made
    event.remove(Engine, "before_cursor_execute", note)


@pytest.mark.parametrize("path", ["/", "/models/model-000", "/models/model-000/quantize"])
def test_more_models_and_variants_take_no_more_queries(client: TestClient, database: Database, path: str) -> None:
    add_models(database, 1, made=1)
    client.get(path)
    with counted() as few:
        client.get(path)
    add_models(database, 6, made=8, prefix="other")
    with counted() as many:
        client.get(path)
    selects = [sum("SELECT" in query for query in queries) for queries in (few, many)]
    assert selects[0] == selects[1] <= 12
    # What is written of a variant is long: a list does without.
    assert not any("evaluations.report" in query.replace("_1.", ".") for query in many)


def test_a_model_is_a_row_with_its_best_variant(client: TestClient, database: Database) -> None:
    add_models(database, 1, made=2)
    shown = Page(client.get("/").text)
    (table,) = shown.tables
    assert [" ".join(cell.split()) for cell in table.rows[1][:7]] == [
        *("model-000", "original", "v00", "3.00×", "300 B30%", "97.0%", "2 made")
    ]
    assert "/models/model-000" in shown.links


def test_a_list_of_many_can_be_searched_and_is_not_long(client: TestClient, database: Database) -> None:
    add_models(database, 12, made=2)
    answer = client.get("/")
    shown = Page(answer.text)
    assert ("data-filter", "#models") in shown.attributes
    assert len(shown.tables[0].rows) == 13
    # A row is about half a kilobyte however many variants there are.
    assert len(answer.content) < 25_000


def test_a_service_without_models_says_how_to_begin(client: TestClient) -> None:
    shown = Page(client.get("/").text)
    assert "No model yet" in shown.text
    assert "octet upload" in shown.text
    assert ("open", "") in shown.attributes


def test_datasets_and_methods_are_offered_with_an_upload(client: TestClient) -> None:
    upload_dataset(client)
    upload_model(client)
    shown = Page(client.get("/").text)
    assert "samples" in shown.text
    offered = [value for name, value in shown.attributes if name == "value"]
    assert {"fp16", "dynamic", "int8", "mixed", "qat", "int4"} <= set(offered)
    assert "evaluate" not in offered
