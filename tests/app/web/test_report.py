from html.parser import HTMLParser
from typing import Any

import pytest

from app.web.report import render_report, shown, verdict

ROW: dict[str, Any] = {
    "variant": "int8",
    "method": "int8",
    "size_bytes": 250_000,
    "size_ratio": 0.25,
    "accuracy": 0.91,
    "accuracy_ratio": 0.99,
    "agreement": 0.97,
    "cosine": 0.999,
    "sqnr_db": 31.0,
    "latency_ms": {"p50": 1.0, "p95": 2.0, "p99": 3.0},
    "speedup": 2.0,
    "speedup_low": 1.9,
    "speedup_high": 2.1,
    "samples": 200,
    "verdict": "accepted",
    "reasons": [],
    "overridden": False,
    "batchable": True,
    "paddable": False,
}
UNMEASURED = dict.fromkeys(("accuracy", "accuracy_ratio", "agreement", "cosine", "sqnr_db", "latency_ms"))


class Text(HTMLParser):
    """The text of a page, and the tags it came in."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name in {"src", "href"} for name, _ in attrs), "the page must need nothing but itself"

    def handle_data(self, data: str) -> None:
        self.text += data


def rendered(model: str, row: dict[str, Any], report: dict[str, Any]) -> Text:
    page = Text()
    page.feed(render_report(model, row, report))
    return page


def test_the_page_holds_every_part_of_the_report() -> None:
    report = {
        "layers": [
            {"name": "conv1", "operator": "Conv", "sqnr_db": 20.5},
            {"name": "y", "operator": "Gemm", "sqnr_db": None},
        ],
        "notes": ["one node stays in FP32"],
        "machine": {"cores": 2, "vnni": True},
        "dataset": {"split": {"seed": 7}},
        "nothing": None,
    }
    page = rendered("resnet", ROW, report)
    for words in ("resnet · int8", "conv1", "20.5 dB", "exact", "one node stays in FP32", "cores", "seed", "7"):
        assert words in page.text
    assert "script" not in page.tags


def test_markup_in_names_is_text() -> None:
    evil = "<script>alert(1)</script>"
    page = rendered(
        evil,
        ROW | {"variant": evil},
        {"layers": [{"name": evil, "operator": evil, "sqnr_db": 1.0}], evil: {evil: evil}},
    )
    assert "script" not in page.tags
    assert page.text.count(evil) >= 6


def test_what_was_not_measured_is_a_dash() -> None:
    page = rendered("resnet", ROW | UNMEASURED | {"samples": 0}, {})
    assert "None" not in page.text
    assert "–" in page.text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "2.00x as fast (1.90 to 2.10"),
        ({}, "the same answer as the original on 97.00% of 200 samples"),
        ({"speedup": 0.5, "speedup_low": 0.4, "speedup_high": 0.6}, "slower than the original"),
        ({"speedup_low": 0.9, "speedup_high": 1.1}, "within noise"),
        ({"agreement": None}, "cosine to the original 0.9990"),
        ({"samples": 0}, "no dataset was named"),
        ({"method": "original"}, "as it was uploaded"),
    ],
)
def test_the_verdict_says_it_in_words(changes: dict[str, Any], words: str) -> None:
    assert words in verdict(ROW | changes)


def test_leaves_of_a_report_read_as_text() -> None:
    assert shown([1, 2.5, None, {"a": "b"}]) == "1, 2.5, –, a b"


@pytest.mark.parametrize(
    ("overridden", "words"),
    [(False, "Rejected and does not serve: too slow. It has"), (True, "serves all the same, by an explicit override")],
)
def test_a_rejected_variant_says_so_first(overridden: bool, words: str) -> None:
    row = ROW | {"verdict": "rejected", "reasons": ["too slow"], "overridden": overridden}
    assert verdict(row).startswith("Rejected")
    assert words in verdict(row)


def test_records_are_the_rows_of_a_table() -> None:
    page = rendered("resnet", ROW, {"method": {"repairs": [{"repair": "smoothing", "kept": True}]}, "none_yet": []})
    assert page.tags.count("table") == 2
    assert "smoothing" in page.text
    assert "none yet" not in page.text
