"""The front page of models that were measured."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.registry.comparison import LatencyView, Row
from app.web.pages import ModelSection, render_index
from tests.app.conftest import upload_model
from tests.app.web.markup import Page

EVIL = '"><script>alert(1)</script><b onclick=x>'


def row(**changes: Any) -> Row:
    whole: dict[str, Any] = {
        "variant": "int8",
        "version": 2,
        "revision": 1,
        "method": "int8",
        "state": "ready",
        "verdict": "accepted",
        "reasons": [],
        "overridden": False,
        "batchable": None,
        "paddable": False,
        "default": False,
        "size_bytes": 300_000,
        "size_ratio": 0.3,
        "accuracy": 0.8555,
        "accuracy_ratio": 1.0046,
        "agreement": 0.9922,
        "cosine": 0.999,
        "sqnr_db": 27.4,
        "latency_ms": LatencyView(p50=0.199, p95=0.36, p99=0.41),
        "speedup": 1.95,
        "speedup_low": 1.91,
        "speedup_high": 1.99,
        "samples": 256,
        "dataset": "cifar10",
        "engine": "onnxruntime",
        "digest": "0" * 64,
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return Row(**(whole | changes))


UNMEASURED = dict.fromkeys(
    ("accuracy", "accuracy_ratio", "agreement", "cosine", "sqnr_db", "latency_ms", "speedup", "samples", "dataset")
)


def page(*sections: ModelSection) -> Page:
    return Page(render_index(sections))


def test_a_variant_is_shown_with_its_figures_and_links() -> None:
    shown = page(ModelSection("resnet", [row()]))
    (table,) = shown.tables
    assert table.rows[1] == [
        *("int8", "2", "0.30 MB 30.00%", "85.55%", "99.22%", "0.199 ms", "0.360 ms"),
        *("1.95x 1.91–1.99", "report ONNX"),
    ]
    assert "/api/v1/models/resnet/variants/2/report" in shown.links
    assert "/api/v1/models/resnet/variants/2/artifact" in shown.links
    assert "/docs" in shown.links


def test_what_was_not_measured_is_a_dash_and_has_no_report() -> None:
    shown = page(ModelSection("resnet", [row(**UNMEASURED)]))
    assert shown.tables[0].rows[1][3:] == ["–", "–", "–", "–", "–", "ONNX"]
    assert not any(link.endswith("/report") for link in shown.links)
    assert "None" not in shown.text


def test_only_the_default_is_marked() -> None:
    original = row(variant="original", method="original", version=1, default=True)
    (table,) = page(ModelSection("resnet", [original, row()])).tables
    assert [cells[0] for cells in table.rows] == ["Variant", "original default", "int8"]


def test_each_model_has_a_table_of_its_own() -> None:
    shown = page(ModelSection("resnet", [row()]), ModelSection("bert", [row(version=7)]))
    assert [table.rows[1][1] for table in shown.tables] == ["2", "7"]
    assert "/api/v1/models/bert/variants/7/artifact" in shown.links
    ids = [value for name, value in shown.attributes if name == "id"]
    assert sorted(ids) == sorted(set(ids))


def test_tables_can_be_read_aloud() -> None:
    (table,) = page(ModelSection("resnet", [row(), row(variant="fp16", version=3)])).tables
    assert table.scopes == ["col"] * 9 + ["row"] * 2
    assert {len(cells) for cells in table.rows} == {9}


def test_markup_is_text_wherever_a_name_is_shown() -> None:
    shown = page(ModelSection(EVIL, [row(variant=EVIL)]))
    assert "script" not in shown.tags
    assert "b" not in shown.tags
    assert not any(name.startswith("on") for name, _ in shown.attributes)
    assert shown.text.count(EVIL) == 2
    assert shown.tables[0].rows[1][0] == EVIL


@pytest.mark.parametrize("models", [0, 2])
def test_the_page_keeps_to_its_own_security_policy(client: TestClient, models: int) -> None:
    for number in range(models):
        upload_model(client, name=f"model-{number}")
    answer = client.get("/")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert "script-src" not in policy
    assert "unsafe-inline" not in answer.headers["Content-Security-Policy"]
    shown = Page(answer.text)
    assert len(shown.tables) == models
    assert not {"script", "style", "iframe", "object", "base"} & set(shown.tags)
    assert not any(name == "style" or name.startswith("on") for name, _ in shown.attributes)
    assert all(re.match(r"/(?!/)", link) for link in shown.links)


def test_no_link_of_the_page_is_dead(client: TestClient) -> None:
    upload_model(client, name="linear")
    links = Page(client.get("/").text).links
    assert "/api/v1/models/linear/variants/1/artifact" in links
    assert {link: client.get(link).status_code for link in links} == dict.fromkeys(links, 200)


def test_the_style_of_the_page_needs_nothing_from_elsewhere(client: TestClient) -> None:
    style = client.get("/static/octet.css")
    assert style.headers["Content-Type"].startswith("text/css")
    assert "url(" not in style.text
    assert "@import" not in style.text


def test_a_service_without_models_says_how_to_begin(client: TestClient) -> None:
    page = client.get("/").text
    assert "No model yet" in page
    assert "octet upload" in page


def test_the_page_is_not_a_part_of_the_api(client: TestClient) -> None:
    assert "/" not in client.get("/openapi.json").json()["paths"]
