"""The table of metrics, and what a new row takes: one class."""

from typing import Any

import numpy as np
import pytest

from tests.worker import models
from tests.worker.evaluation.fakes import FakeModel
from worker.evaluation import metrics
from worker.evaluation.alone import Alone, assess
from worker.evaluation.budget import Budget, judge
from worker.evaluation.heldout import Comparison, compare
from worker.evaluation.latency import Latencies, Percentiles
from worker.evaluation.metrics import METRICS, AnswerBatch, Breach, Figure, Metric, Subject
from worker.samples import Feeder

_X = models.normal(50, 4)
_LABELS = _X.argmax(axis=1)
_SAME = Percentiles(1.0, 1.1, 1.2)
_LATENCIES = Latencies(_SAME, _SAME, speedup=1.0, low=0.9, high=1.1, pairs=100)
_LIMIT = 0.5


class LargestDifference(Metric):
    """The largest absolute difference of a value; more than `_LIMIT` is too much."""

    name = "largest_difference"
    unit = "V"
    higher_is_better = False

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.largest = 0.0

    def add(self, batch: AnswerBatch) -> None:
        for output in batch.outputs:
            if output.is_comparable and output.variant is not None:
                self.largest = max(self.largest, float(np.abs(output.original - output.variant).max()))

    def figure(self) -> Figure:
        return Figure(None, self.largest)

    def breach(self, max_drop: float) -> Breach | None:
        return Breach(f"a value is off by {self.largest:g} V") if self.largest > _LIMIT else None


@pytest.fixture
def one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "METRICS", (*METRICS, LargestDifference))


def _compare(error: float, labels: Any = None) -> Comparison:
    original, variant = FakeModel(lambda x: [x]), FakeModel(lambda x: [x + np.float32(error) * (x == _X[33])])
    return compare(
        original,
        variant,
        Feeder(original.inputs, {"x": _X}),
        np.arange(50),
        labels,
        batch=8,
        progress=lambda share: None,
    )


def _assess(labels: Any) -> Alone:
    model = FakeModel(lambda x: [x])
    feeder = Feeder(model.inputs, {"x": _X})
    return assess(model, feeder, np.arange(50), labels, batch=8, progress=lambda share: None)


def test_names_are_words_and_there_is_one_of_each() -> None:
    names = [metric.name for metric in METRICS]
    assert len(names) == len({*names})
    assert all(name.replace("_", "").isalnum() and name == name.lower() for name in names)


def test_metrics_of_labels_apply_where_there_are_some() -> None:
    with_labels, without = ([metric.name for metric in _compare(0.0, labels).metrics] for labels in (_LABELS, None))
    assert with_labels[:4] == ["accuracy", "agreement", "cosine", "sqnr_db"]
    assert without[:3] == ["agreement", "cosine", "sqnr_db"]
    assert "accuracy" not in without


def test_one_model_by_itself_has_what_takes_no_variant() -> None:
    [accuracy] = _assess(_LABELS).metrics
    assert accuracy.entry().model_dump() == {
        "name": "accuracy",
        "unit": "share",
        "higher_is_better": True,
        "original": 1.0,
        "variant": None,
        "change": None,
        "low": None,
        "high": None,
    }
    assert _assess(None).metrics == ()


@pytest.mark.usefixtures("one_more")
def test_a_new_row_is_measured_over_all_batches() -> None:
    found = _compare(0.25, _LABELS)
    assert found.figure("largest_difference").variant == pytest.approx(0.25)
    assert found.metrics[-1].entry().unit == "V"


@pytest.mark.usefixtures("one_more")
@pytest.mark.parametrize("labels", [None, _LABELS])
def test_a_new_row_rejects_a_variant_without_an_edit_of_the_gate(labels: Any) -> None:
    generous = Budget(max_accuracy_drop=1.0, min_speedup=None)
    assert judge(generous, _compare(0.25, labels), _LATENCIES).verdict == "accepted"
    rejected = judge(generous, _compare(0.75, labels), _LATENCIES)
    assert (rejected.verdict, rejected.reasons) == ("rejected", ("a value is off by 0.75 V",))
