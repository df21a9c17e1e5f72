"""The pages of one model."""

import re

import pytest
from fastapi.testclient import TestClient

from app.registry import Database, models
from app.settings import Settings
from tests import graphs
from tests.app.conftest import onnx_bytes, upload_dataset, upload_model
from tests.app.live_experiment import add_variant
from tests.app.web.crowd import add_models
from tests.app.web.markup import Page
from tests.app.web.rows import EVIL


@pytest.fixture
def compared(client: TestClient, settings: Settings) -> TestClient:
    """A gateway with `model-000`, which has two measured variants."""
    database = Database(settings.registry_url)
    add_models(database, 1, made=2)
    database.close()
    return client


def forms(shown: Page) -> list[str]:
    return [value for name, value in shown.attributes if name == "data-api"]


def test_the_comparison_says_all_that_was_measured(compared: TestClient) -> None:
    shown = Page(compared.get("/models/model-000").text)
    table = next(table for table in shown.tables if table.rows[0][-1] == "Do")
    row = [" ".join(cell.split()) for cell in table.rows[2]]
    assert row[0].startswith("v00 int8 · version 2")
    assert row[1:7] == [
        *("300 B30%", "89.00%99.0% kept", "97.00%", "0.999030.0 dB", "0.667 ms0.733 ms", "3.00×3.00× – 3.00×")
    ]
    assert "/api/v1/models/model-000/variants/2/report" in shown.links
    assert "/api/v1/models/model-000/variants/2/artifact" in shown.links
    assert "DELETE /api/v1/models/model-000/variants/2" in forms(shown)
    assert "Recommended: v00" in shown.text


def test_neither_the_original_nor_the_default_can_be_deleted_from_the_page(compared: TestClient) -> None:
    shown = Page(compared.get("/models/model-000").text)
    assert not any(form.endswith("/variants/1") for form in forms(shown))


def test_the_chart_has_its_points_as_a_table(compared: TestClient) -> None:
    shown = Page(compared.get("/models/model-000").text)
    table = next(table for table in shown.tables if "Pareto front" in table.rows[0])
    assert [row[0] for row in table.rows[1:]] == ["original", "v00", "v01"]


def test_what_was_not_measured_is_a_dash_and_has_no_report(client: TestClient) -> None:
    upload_model(client)
    shown = Page(client.get("/models/linear").text)
    assert not any(link.endswith("/report") for link in shown.links)
    assert "None" not in shown.text
    assert "Only the original is here" in shown.text


def test_a_rejected_variant_says_why_and_serves_only_when_insisted_on(client: TestClient, registry: Database) -> None:
    shown = Page(client.get("/models/linear").text)
    assert "too far off" in shown.text
    questions = [value for name, value in shown.attributes if name == "data-confirm"]
    assert any("bad was rejected: too far off" in question for question in questions)


def test_markup_in_names_is_text(client: TestClient, settings: Settings) -> None:
    upload_model(client, labels=f'["{EVIL.replace(chr(34), "")}", "b", "c", "d"]')
    database = Database(settings.registry_url)
    add_variant(database, EVIL, verdict="rejected", reasons=[EVIL])
    with database.writing() as session:
        models.find_revision(session, models.find(session, "linear")).operators = {EVIL: 1}
    database.close()
    for path in ("/models/linear", "/models/linear/quantize", "/"):
        shown = Page(client.get(path).text)
        assert "b" not in shown.tags
        assert not any(name.startswith("on") for name, _ in shown.attributes)
        assert all(re.match(r"/static/|$", value) for name, value in shown.attributes if name == "src")
    assert Page(client.get("/models/linear").text).text.count(EVIL) >= 3


def test_each_revision_has_its_own_comparison(client: TestClient) -> None:
    upload_model(client)
    upload_model(client, onnx_bytes(graphs.convolution()))
    newest = Page(client.get("/models/linear").text)
    assert "Variants of revision 2" in newest.text
    assert "are answered by original of revision 1" in " ".join(newest.text.split())
    older = Page(client.get("/models/linear?revision=1").text)
    assert "Variants of revision 1" in older.text
    assert "/models/linear?revision=1" in [value for name, value in older.attributes if name == "hx-get"]
    assert client.get("/models/linear?revision=9").status_code == 404


def test_methods_that_do_nothing_for_the_model_say_why(client: TestClient, settings: Settings) -> None:
    upload_model(client)
    database = Database(settings.registry_url)
    with database.writing() as session:
        models.find_revision(session, models.find(session, "linear")).operators = {"Conv": 1}
    database.close()
    page = client.get("/models/linear/quantize").text
    assert "method &#39;dynamic&#39; works on Gemm, MatMul, and this model has none of them" in page
    assert re.search(r'value="dynamic" disabled', page)
    assert 'data-choice="dynamic"' not in page


def test_without_a_dataset_a_method_is_chosen_that_needs_none(client: TestClient) -> None:
    upload_model(client)
    assert chosen(client) == "dynamic"
    upload_dataset(client)
    assert chosen(client) == "int8"
    assert chosen(client, "?method=fp16") == "fp16"
    assert chosen(client, "?method=unknown") == "int8"


def chosen(client: TestClient, query: str = "") -> str:
    page = client.get(f"/models/linear/quantize{query}").text
    (found,) = re.findall(r'name="method" value="(\w+)" checked', page)
    assert isinstance(found, str)
    return found
