"""An evaluation metric is one class and one row: users see it everywhere, and it can reject a variant."""

import numpy as np
import pytest

from tests.app.web.markup import Page
from tests.seams.octet import Octet
from worker.evaluation import metrics
from worker.evaluation.metrics import METRICS, AnswerBatch, Breach, Figure, Metric, Subject


class LargestDifference(Metric):
    """The largest absolute difference between two outputs; `limit` is the most that is accepted."""

    name = "largest_difference"
    unit = "V"
    higher_is_better = False
    limit = 1.0

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.largest = 0.0

    def add(self, batch: AnswerBatch) -> None:
        for output in batch.outputs:
            if output.is_comparable and output.variant is not None:
                self.largest = max(self.largest, float(np.abs(output.original - output.variant).max()))

    def figure(self) -> Figure:
        return Figure(None, self.largest, low=0.0, high=self.largest)

    def breach(self, max_drop: float) -> Breach | None:
        return Breach(f"a value is off by {self.largest:.3g} V") if self.largest > self.limit else None


@pytest.fixture
def one_more(octet: Octet, monkeypatch: pytest.MonkeyPatch) -> Octet:
    monkeypatch.setattr(metrics, "METRICS", (*METRICS, LargestDifference))
    return octet


def _quantize(octet: Octet) -> None:
    job = {"model": "linear", "method": "fp16", "dataset": "samples"}
    assert octet.client.post("/api/v1/jobs", json=job).status_code == 202
    octet.work()


def test_users_see_it_in_report_page_comparison_and_terminal(one_more: Octet) -> None:
    _quantize(one_more)
    row = one_more.client.get("/api/v1/models/linear/variants/fp16").json()
    (entry,) = (metric for metric in row["metrics"] if metric["name"] == "largest_difference")
    assert 0.0 < entry["variant"] < 0.1
    assert (entry["original"], entry["change"], entry["higher_is_better"]) == (None, None, False)
    shown = f"{entry['variant']:.4g} V"

    url = "/api/v1/models/linear/variants/fp16/report"
    report = one_more.client.get(url).json()["report"]
    assert entry in report["metrics"]
    tables = Page(one_more.client.get(url, params={"format": "html"}).text).tables
    (listed,) = (table for table in tables if table.rows[0][0] == "Metric")
    assert ["Largest difference", "–", shown, "–", f"0 V to {shown}", "lower"] in listed.rows

    (compared,) = (table for table in Page(one_more.client.get("/models/linear").text).tables if "Do" in table.rows[0])
    column = compared.rows[0].index("Largest difference")
    assert [cells[column].startswith(word) for cells, word in zip(compared.rows[1:], ("–", shown), strict=True)]

    assert "largest difference" in one_more.command("compare", "linear")
    assert shown in one_more.command("compare", "linear")
    assert f"largest difference  {shown} (95%: 0 V to {shown})" in one_more.command("report", "linear", "fp16")


def test_it_rejects_a_variant(one_more: Octet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LargestDifference, "limit", 0.0)
    _quantize(one_more)
    row = one_more.client.get("/api/v1/models/linear/variants/fp16").json()
    assert row["verdict"] == "rejected"
    assert row["reasons"] == [reason for reason in row["reasons"] if "a value is off by" in reason]
    assert one_more.client.put("/api/v1/models/linear/default", json={"variant": "fp16"}).status_code == 409


def test_the_original_has_its_own_figures(octet: Octet) -> None:
    _quantize(octet)
    original, variant = octet.client.get("/api/v1/models/linear/variants").json()
    (accuracy,) = original["metrics"]
    assert (accuracy["name"], accuracy["original"], accuracy["variant"]) == ("accuracy", original["accuracy"], None)
    assert [metric["name"] for metric in variant["metrics"]][:4] == ["accuracy", "agreement", "cosine", "sqnr_db"]
    assert variant["metrics"][1]["variant"] == variant["agreement"]
