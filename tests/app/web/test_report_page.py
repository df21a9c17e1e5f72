"""The report page: tables as they are read, and the route that serves it."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.registry import Database, evaluations, models, variants
from app.registry.evaluations import Figures, LayerFigures
from app.settings import Settings
from app.web.report import render_report, shown, verdict
from tests.app.conftest import upload_model
from tests.app.web.markup import Page
from tests.app.web.test_report import ROW

LAYERS: list[dict[str, Any]] = [
    {"name": "conv1", "operator": "Conv", "sqnr_db": -3.25},
    {"name": "conv2", "operator": "Conv", "sqnr_db": 30.0},
    {"name": "fc", "operator": "Gemm", "sqnr_db": 75.0},
    {"name": "relu", "operator": "Relu", "sqnr_db": None},
]


def page(report: dict[str, Any], **changes: Any) -> Page:
    return Page(render_report("resnet", ROW | changes, report))


def test_layers_are_a_table_in_the_order_of_the_report() -> None:
    (table,) = page({"layers": LAYERS}).tables
    assert [cells[:3] for cells in table.rows[1:]] == [
        ["conv1", "Conv", "-3.2 dB"],
        ["conv2", "Conv", "30.0 dB"],
        ["fc", "Gemm", "75.0 dB"],
        ["relu", "Relu", "exact"],
    ]
    assert table.scopes == ["col"] * 4


def test_bars_are_within_their_ends_and_have_a_name() -> None:
    parsed = page({"layers": LAYERS})
    assert [value for name, value in parsed.attributes if name == "value"] == ["0", "50", "100", "100"]
    labels = [value for name, value in parsed.attributes if name == "aria-label"]
    assert labels == [f"SQNR of {layer['name']}" for layer in LAYERS]


def test_parts_within_parts_are_tables_within_tables() -> None:
    parsed = page({"dataset": {"name": "cifar10", "split": {"seed": 7, "held_out": 256}}, "empty": {}})
    outer, inner, empty = parsed.tables
    assert outer.rows[0] == ["name", "cifar10"]
    assert outer.rows[1][0] == "split"
    assert inner.rows == [["seed", "7"], ["held out", "256"]]
    assert empty.rows == []


def test_a_page_of_a_bare_report_has_no_empty_parts() -> None:
    parsed = page({"layers": [], "notes": [], "dataset": None})
    assert parsed.tags.count("section") == 1
    assert parsed.tables == []


def test_the_page_needs_nothing_but_itself_and_has_no_script() -> None:
    parsed = page({"layers": LAYERS, "notes": ["a note"], "machine": {"cores": 2}})
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(parsed.tags)
    assert not any(name in {"src", "href", "style"} or name.startswith("on") for name, _ in parsed.attributes)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "–"),
        (0.1 + 0.2, "0.3"),
        (1234567.0, "1.23457e+06"),
        (12345678, "12345678"),
        (True, "True"),
        ("", ""),
        ([], ""),
        ({"a": [1, {"b": None}]}, "a 1, b –"),
    ],
)
def test_a_leaf_is_shown_as_text(value: object, words: str) -> None:
    assert shown(value) == words


def test_a_whole_verdict_is_a_sentence() -> None:
    assert verdict(ROW) == (
        "25% of the original's size, 2.00x as fast (1.90 to 2.10, 95% confidence);"
        " accuracy 91.00%, 99.00% of the original's, the same answer as the original on 97.00% of 200 samples."
    )
    unlabelled = ROW | {"accuracy": None, "accuracy_ratio": None, "speedup": None}
    assert verdict(unlabelled) == (
        "25% of the original's size; the same answer as the original on 97.00% of 200 samples."
    )


@pytest.fixture
def evaluated(client: TestClient, settings: Settings) -> TestClient:
    """A gateway whose model `linear` was evaluated as it is."""
    upload_model(client)
    database = Database(settings.registry_url)
    with database.writing() as session:
        original = variants.find(session, models.find(session, "linear"), "original")
        evaluations.record(
            session,
            original,
            Figures(accuracy=0.75, latency_p50_ms=0.5, latency_p95_ms=0.6, latency_p99_ms=0.7),
            dataset="samples",
            samples=64,
            layers=[LayerFigures(name="<i>fc</i>", operator="Gemm", sqnr_db=12.5)],
            report={"notes": ["measured <b>twice</b>"], "machine": {"cores": 2}},
        )
    database.close()
    return client


PATH = "/api/v1/models/linear/variants/original/report"


@pytest.mark.parametrize(
    ("accepts", "kind"),
    [
        ("text/html", "text/html"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html"),
        ("application/json", "application/json"),
        ("*/*", "application/json"),
    ],
)
def test_a_browser_is_given_the_page_and_a_program_the_json(evaluated: TestClient, accepts: str, kind: str) -> None:
    answer = evaluated.get(PATH, headers={"Accept": accepts})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith(kind)


def test_the_page_of_an_evaluated_variant_is_linked_from_the_page_of_its_model(evaluated: TestClient) -> None:
    (link,) = [link for link in Page(evaluated.get("/models/linear").text).links if link.endswith("/report")]
    parsed = Page(evaluated.get(link, headers={"Accept": "text/html"}).text)
    assert "linear · original" in parsed.text
    assert "75.00%" in parsed.text
    assert ["<i>fc</i>", "Gemm", "12.5 dB"] in [cells[:3] for table in parsed.tables for cells in table.rows]
    assert "measured <b>twice</b>" in parsed.text
    assert not {"i", "b"} & set(parsed.tags)


def test_a_variant_that_was_not_evaluated_has_no_report(client: TestClient) -> None:
    upload_model(client)
    answer = client.get(PATH, headers={"Accept": "text/html"})
    assert answer.status_code == 404
    assert "not evaluated" in answer.json()["detail"]
