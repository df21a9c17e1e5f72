"""The report page: what it shows, and that it needs nothing but itself."""

import base64
import hashlib
import json
import re
from typing import Any

import pytest

from app.web.report import render_report
from app.web.report.leaves import shown
from tests.app.web.markup import Page
from tests.app.web.report.reports import LAYERS, ROW, UNMEASURED, full

EVIL = '</script></style><script>alert(1)</script>"><b onclick=x>'


def source(report: dict[str, Any], **changes: Any) -> str:
    return render_report("resnet", ROW | changes, report)[0]


def page(report: dict[str, Any], **changes: Any) -> Page:
    return Page(source(report, **changes))


def ids(parsed: Page) -> list[str]:
    return [value for name, value in parsed.attributes if name == "id"]


def test_a_report_of_everything_shows_everything() -> None:
    parsed = page(full(), variant="mixed", method="mixed")
    words = [
        "resnet · mixed", "3 of 200 held-out samples", "McNemar's p = 7.1e-05", "Sample 17, labelled conv1", "60.0%",
        "turned wrong", "2.00× as fast", "1 request to original", "20.5 dB", "1 × 8 × 4 × 4", "uint8 × int8",
        "bias corrected", "range -1 to 1.5 of -2 to 3 seen, 1.230% clipped · scale 0.0098, zero point 102, uint8",
        "99.870% of the activations", "1 of 2 groups of layers stay in FP32", "7 trials in 14 s", "10.000%",
        "loss went from 0.5 to 0.25", "1.00% may go, and it must be at least 1.50× as fast", "sums of 2 nodes",
        "seed 7, samples 96", "Something new",
    ]  # fmt: skip
    assert [word for word in words if word not in parsed.text] == []
    assert ids(parsed) == list(dict.fromkeys(ids(parsed)))
    charts = {"latency-chart", "activation-1", "front-chart", "loss-chart"}
    assert charts <= set(ids(parsed))


def test_the_contents_lead_to_every_section() -> None:
    parsed = page(full())
    anchors = [link.removeprefix("#") for link in parsed.links if link.startswith("#")]
    assert set(anchors) <= set(ids(parsed))
    assert parsed.tags.count("section") == len(set(anchors))


def test_every_chart_is_a_table_too() -> None:
    text = source(full())
    charts = re.findall(r"data-chart-data>(.*?)</script>", text)
    assert len(charts) == text.count('class="as-table"') == 4
    assert {json.loads(chart)["kind"] for chart in charts} == {"lines", "scatter"}
    (losses,) = [table for table in page(full()).tables if table.rows[0] == ["epoch", "training", "validation"]]
    assert losses.rows[1:] == [["0", "–", "0.5"], ["1", "0.3", "0.25"]]


def test_a_confusion_matrix_tells_what_changed() -> None:
    (matrix,) = [table for table in page(full()).tables if table.rows[0] == ["label", "conv1", "dog"]]
    assert matrix.rows[1:] == [["conv1", "3-1", "2+1"], ["dog", "", "5"]]


@pytest.mark.parametrize(
    ("confusion", "heading", "row"),
    [
        (
            {"rows": "label", "pairs": [{"from": "a", "to": "b", "original": 3, "variant": 4}]},
            ["Label", "Answer", "Original", "Variant"],
            ["a", "b", "3", "4"],
        ),
        (
            {"rows": "original", "pairs": [{"from": "a", "to": "b", "variant": 4}]},
            ["Original", "Variant", "Samples"],
            ["a", "b", "4"],
        ),
    ],
)
def test_of_many_classes_pairs_are_shown(confusion: dict[str, Any], heading: list[str], row: list[str]) -> None:
    (table,) = page({"confusion": confusion}).tables[:1]
    assert table.rows == [heading, row]


def test_where_no_answer_changed_it_says_so() -> None:
    answers = {"kind": "classes", "samples_compared": 256, "changed": 0, "samples": []}
    assert "the same answer to all 256 held-out samples" in page({"answers": answers}).text


def test_outputs_that_are_no_classes_are_told_by_cosine() -> None:
    answers = {
        "kind": "outputs",
        "output": "embedding",
        "samples_compared": 9,
        "cosine_quantiles": {"0": 0.9, "50": 0.99},
        "samples": [{"sample": 4, "cosine": 0.9}],
    }
    parsed = page({"answers": answers})
    assert parsed.tables[0].rows == [["worst", "median"], ["0.90000", "0.99000"]]
    assert "Sample 4" in parsed.text


@pytest.mark.parametrize(
    "report",
    [
        {},
        {"layers": LAYERS, "notes": ["one node stays in FP32"], "machine": {"cores": 2}, "nothing": None, "empty": {}},
        {"latency": {"original_ms": {"p50": 2.0, "p95": 3.0, "p99": 4.0}, "requests": 7}},
        {"confusion": None, "answers": None, "activations": [], "points": [], "layers": [], "dataset": None},
        {"method": {"name": "int8", "options": {}, "repairs": [{"repair": "smoothing", "kept": True}]}},
    ],
    ids=["bare", "older", "older latency", "nothing measured", "repairs alone"],
)
@pytest.mark.parametrize("method", ["int8", "original"])
def test_reports_that_lack_parts_are_shown(report: dict[str, Any], method: str) -> None:
    parsed = page(report, **UNMEASURED, method=method, samples=0, speedup=None, verdict=None)
    assert "None" not in parsed.text
    assert "–" in parsed.text
    assert "octet quantize resnet" in parsed.text


def test_layers_are_a_table_in_the_order_of_the_report() -> None:
    table = page({"layers": LAYERS}).tables[0]
    assert [cells[:3] for cells in table.rows[1:]] == [
        ["conv1", "Conv", "-3.2 dB"],
        ["conv2", "Conv", "30.0 dB"],
        ["fc", "Gemm", "75.0 dB"],
        ["relu", "Relu", "exact"],
    ]
    assert table.scopes == ["col"] * 3 + ["row"] * 4


def test_bars_are_within_their_ends() -> None:
    bars = re.findall(r'class="filled" width="([\d.]+)"', source({"layers": LAYERS}))
    assert [float(width) for width in bars] == [0, 50, 100, 100]


def test_a_long_table_is_folded_and_whole() -> None:
    layers = [{"name": f"layer-{number}", "operator": "Conv", "sqnr_db": 1.0} for number in range(40)]
    parsed = page({"layers": layers})
    assert all(f"layer-{number}" in parsed.text for number in range(40))
    assert "25 less noisy ones" in parsed.text


def test_markup_is_text_wherever_a_name_is_shown() -> None:
    text, _ = render_report(EVIL, ROW | {"variant": EVIL, "reasons": [EVIL], "verdict": "rejected"}, full(EVIL))
    parsed = Page(text)
    scripts = [tag for tag in re.findall(r"<script[^>]*>", text) if "json" not in tag]
    assert scripts == ["<script>"]
    assert "b" not in parsed.tags
    assert not any(name.startswith("on") for name, _ in parsed.attributes)
    assert parsed.text.count(EVIL) >= 20


def test_the_page_allows_its_own_style_and_script_and_no_other() -> None:
    text, headers = render_report("resnet", ROW, full())
    (meta,) = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', text)
    told = meta.replace("&#39;", "'")
    assert headers["Content-Security-Policy"] == f"{told}; frame-ancestors 'none'"
    policy = dict(part.strip().split(" ", 1) for part in told.split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["img-src"] == "data:"
    assert "unsafe" not in told
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[directive] == f"'sha256-{digest}'"


def test_the_page_needs_nothing_but_itself() -> None:
    parsed = page(full())
    assert not {"link", "iframe", "object", "base", "form"} & set(parsed.tags)
    assert not any(name == "style" or name.startswith("on") for name, _ in parsed.attributes)
    assert all(value.startswith("data:") for name, value in parsed.attributes if name == "src")
    text = source(full())
    assert "@import" not in text
    assert "url(" not in text
    assert not re.search(r"^\s*(import|export) ", text, re.MULTILINE)


def test_parts_that_no_section_knows_are_tables() -> None:
    parsed = page({"something": {"name": "cifar10", "part": {"seed": 7}, "rows": [{"a": 1, "b": None}]}})
    texts = [table.rows for table in parsed.tables]
    assert [["seed", "7"]] in texts
    assert [["a", "b"], ["1", "–"]] in texts


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "–"),
        (0.1 + 0.2, "0.3"),
        (1234567.0, "1.23457e+06"),
        (12345678, "12345678"),
        (True, "yes"),
        ("", ""),
        ([], ""),
        ({"a": [1, {"b": None}]}, "a 1, b –"),
        ([1, 2.5, None, {"a": "b"}], "1, 2.5, –, a b"),
    ],
)
def test_a_leaf_is_shown_as_text(value: object, words: str) -> None:
    assert shown(value) == words
