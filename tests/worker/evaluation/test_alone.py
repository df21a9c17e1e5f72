"""What is measured of one model by itself."""

import time
from typing import Any

import numpy as np
import pytest

from app.engines import TensorSpec
from tests.worker import models
from tests.worker.evaluation.fakes import Array, FakeModel
from worker.evaluation.alone import Alone, assess
from worker.evaluation.latency import measure_alone
from worker.samples import Feeder

_X = models.normal(50, 4)


def _assess(model: FakeModel, **options: Any) -> Alone:
    defaults: dict[str, Any] = {
        "indices": np.arange(50),
        "labels": None,
        "batch": 8,
        "progress": lambda share: None,
    }
    return assess(model, Feeder(model.inputs, {"x": _X}), **(defaults | options))


def test_accuracy_is_of_the_very_samples_asked_for() -> None:
    labels = _X.argmax(axis=1)
    labels[40] = (labels[40] + 1) % 4
    found = _assess(FakeModel(lambda x: [x]), indices=np.array([3, 40, 7, 22, 9]), labels=labels, batch=2)
    assert (found.samples, found.accuracy, found.notes) == (5, pytest.approx(4 / 5), ())


def test_a_model_is_run_once_on_each_sample_and_tells_how_far_it_is() -> None:
    model, shares = FakeModel(lambda x: [x]), list[float]()
    _assess(model, progress=shares.append)
    assert model.batches == [8] * 6 + [2]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_copies_that_fill_a_fixed_batch_do_not_count() -> None:
    model = FakeModel(lambda x: [x])
    model.inputs = (TensorSpec("x", "FP32", (8, 4)),)
    labels = _X.argmax(axis=1)
    labels[49] = (labels[49] + 1) % 4
    found = _assess(model, labels=labels)
    assert (found.samples, found.accuracy) == (50, pytest.approx(49 / 50))


@pytest.mark.parametrize(
    ("labels", "classes", "words"),
    [(None, 4, "no labels"), (np.full(50, 7), 4, "not classes"), (np.zeros(50, int), 1, "no output holds class")],
)
def test_where_there_is_no_accuracy_the_reason_is_given(labels: Array | None, classes: int, words: str) -> None:
    found = _assess(FakeModel(lambda x: [x[:, :classes]]), labels=labels)
    assert found.accuracy is None
    assert any(words in note for note in found.notes)


def test_answers_that_are_no_numbers_are_counted() -> None:
    def answer(x: Array) -> list[Array]:
        answered = x.copy()
        answered[(x == _X[[3, 44]][:, None]).all(axis=2).any(axis=0)] = np.nan
        return [answered, np.int64([1]), np.float32(np.inf)]

    outputs = [TensorSpec(name, "FP32", (-1, 4)) for name in ("y", "count", "sum")]
    found = _assess(FakeModel(answer, outputs))
    assert "output 'y' is NaN or infinite for 2 samples" in found.notes
    assert not any("'count'" in note for note in found.notes)
    assert any("'sum'" in note for note in found.notes)


# A busy machine may hold 60 requests up for longer than three times 0.01 s, but not for three times 0.2 s.
@pytest.mark.parametrize(("pause", "seconds", "at_least"), [(0.0, 0.2, 60), (0.004, 0.01, 10)])
def test_latency_is_of_single_requests_after_a_warm_up(pause: float, seconds: float, at_least: int) -> None:
    def run(x: Array) -> list[Array]:
        time.sleep(pause)
        return [x]

    model = FakeModel(run)
    requests = [{"x": np.full((1, 4), value, np.float32)} for value in range(3)]
    found = measure_alone(model, requests, seconds=seconds, progress=lambda share: None)
    assert found.requests >= at_least
    assert len(model.batches) > found.requests
    assert set(model.batches) == {1}
    assert 1e3 * pause <= found.original_ms.p50 <= found.original_ms.p95 <= found.original_ms.p99
