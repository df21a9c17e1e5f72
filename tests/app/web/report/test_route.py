"""The route that serves the report, in each of its forms."""

import csv
import io
import re

import pytest
from fastapi.testclient import TestClient

from app.api.layer_table import as_csv
from app.contracts.figures import Figures, LayerFigures
from app.registry import Database, evaluations, models, variants
from app.settings import Settings
from tests.app.conftest import upload_model
from tests.app.web.markup import Page


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
            layers=[
                LayerFigures(
                    name="<i>fc</i>",
                    operator="Gemm",
                    sqnr_db=12.5,
                    tensor="y",
                    shape=[1, 3],
                    activations="uint8",
                    weights="int8",
                    repairs=["bias corrected", "trained"],
                )
            ],
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


def test_the_page_of_an_evaluated_variant_is_linked_from_that_of_its_model(evaluated: TestClient) -> None:
    (link,) = {link for link in Page(evaluated.get("/models/linear").text).links if link.endswith("/report")}
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


def test_a_table_of_layers_is_handed_out_as_csv(evaluated: TestClient) -> None:
    answer = evaluated.get(PATH, headers={"Accept": "text/csv"})
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="linear-original-layers.csv"'
    assert answer.headers["Vary"] == "Accept"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["name"], row["operator"], row["sqnr_db"]) for row in rows] == [("<i>fc</i>", "Gemm", "12.5")]
    assert (rows[0]["shape"], rows[0]["weights"], rows[0]["repairs"]) == ("1x3", "int8", "bias corrected; trained")


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@sum", "\t=1", "\r=1", "=cmd|' /C calc'!A0", "＝1"])
def test_no_cell_is_a_formula(name: str) -> None:
    layer = {"name": name, "operator": name, "sqnr_db": -3.25, "repairs": [name, "x"]}
    (row,) = list(csv.DictReader(io.StringIO(as_csv([layer]), newline="")))
    assert row["name"] == row["operator"] == f"'{name}"
    assert row["repairs"] == f"'{name}; x"
    assert row["sqnr_db"] == "-3.25"


@pytest.mark.parametrize(("form", "kind"), [("json", "application/json"), ("html", "text/html"), ("csv", "text/csv")])
def test_a_link_can_ask_for_any_form(evaluated: TestClient, form: str, kind: str) -> None:
    answer = evaluated.get(PATH, params={"format": form}, headers={"Accept": "application/json"})
    assert answer.headers["Content-Type"].startswith(kind)


def test_a_form_that_there_is_not_is_refused(evaluated: TestClient) -> None:
    assert evaluated.get(PATH, params={"format": "pdf"}).status_code == 422


def test_the_page_comes_with_its_policy(evaluated: TestClient) -> None:
    answer = evaluated.get(PATH, headers={"Accept": "text/html"})
    policy = answer.headers["Content-Security-Policy"]
    assert re.fullmatch(
        r"default-src 'none'; script-src 'sha256-\S+'; style-src 'sha256-\S+'; img-src data:; .*", policy
    )
    assert "unsafe" not in policy


def test_the_forms_are_told_of_in_the_description(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    told = paths["/api/v1/models/{model}/variants/{variant}/report"]["get"]["responses"]["200"]["content"]
    assert told.keys() == {"application/json", "text/html", "text/csv"}
    assert told["application/json"]["schema"]["$ref"].endswith("ReportView")


def test_details_of_layers_are_kept_with_them(evaluated: TestClient) -> None:
    report = evaluated.get(PATH).json()["report"]
    assert "layer_details" not in report
    (layer,) = report["layers"]
    assert layer["tensor"] == "y"
    assert layer["repairs"] == ["bias corrected", "trained"]
