"""Original and variant on held-out samples."""

from typing import Any

import numpy as np
import pytest

from app.engines import TensorSpec
from app.errors import JobFailed
from tests.worker import models
from tests.worker.evaluation.fakes import Array, FakeModel
from worker.evaluation.heldout import Comparison, compare
from worker.samples import Feeder

_X = models.normal(50, 4)
_SPEC = TensorSpec("y", "FP32", (-1, 4))


def _compare(original: FakeModel, variant: FakeModel, **options: Any) -> Comparison:
    feeder = Feeder(original.inputs, {"x": options.pop("x", _X)})
    defaults: dict[str, Any] = {
        "indices": np.arange(50),
        "labels": None,
        "batch": 8,
        "progress": lambda share: None,
    }
    return compare(original, variant, feeder, **(defaults | options))


def test_accuracy_and_agreement_are_of_the_very_samples_asked_for() -> None:
    indices = np.array([3, 40, 7, 22, 9])
    labels = _X.argmax(axis=1)
    labels[40] = (labels[40] + 1) % 4

    def variant(x: Array) -> list[Array]:
        wrong = np.array(x)
        wrong[(x[:, None] == _X[[7, 22]]).all(axis=2).any(axis=1)] *= -1
        return [wrong]

    found = _compare(FakeModel(lambda x: [x]), FakeModel(variant), indices=indices, labels=labels, batch=2)
    assert found.samples == 5
    assert found.figure("accuracy").original == pytest.approx(4 / 5)
    assert found.figure("accuracy").variant == pytest.approx(2 / 5)
    assert found.figure("agreement").variant == pytest.approx(3 / 5)
    assert found.figure("cosine").variant == pytest.approx((3 - 2) / 5)


def test_both_see_the_same_batches() -> None:
    original, variant = FakeModel(lambda x: [x]), FakeModel(lambda x: [x])
    _compare(original, variant, batch=8)
    assert original.batches == variant.batches == [8] * 6 + [2]


def test_embeddings_have_a_cosine_and_no_agreement() -> None:
    def unit(x: Array) -> list[Array]:
        return [x / np.linalg.norm(x, axis=1, keepdims=True)]

    found = _compare(FakeModel(unit), FakeModel(unit))
    assert found.figure("agreement").variant is None
    assert found.figure("cosine").variant == pytest.approx(1.0)
    assert any("no output holds class scores" in note for note in found.notes)


def test_labels_that_are_no_classes_of_the_output_give_no_accuracy() -> None:
    model = FakeModel(lambda x: [x])
    found = _compare(model, FakeModel(lambda x: [x]), labels=np.full(50, 7))
    assert found.figure("accuracy").original is None
    assert found.figure("agreement").variant == 1.0
    assert any("labels are not classes" in note for note in found.notes)


def test_sqnr_is_over_all_outputs_and_each_is_told() -> None:
    specs = [TensorSpec("scores", "FP32", (-1, 4)), TensorSpec("total", "FP32", ()), TensorSpec("n", "INT64", (-1,))]

    def outputs(error: float) -> FakeModel:
        return FakeModel(lambda x: [x, x.sum() + error, np.arange(len(x))], specs)

    found = _compare(outputs(0.0), outputs(0.5), batch=50)
    cosine, sqnr_db = found.figure("cosine").by_output, found.figure("sqnr_db").by_output
    signal = float((_X.astype(np.float64) ** 2).sum()) + float(_X.sum()) ** 2
    assert found.figure("sqnr_db").variant == pytest.approx(10 * np.log10(signal / 0.25), abs=1e-3)
    assert sqnr_db["scores"] is None  # equal: infinite
    assert cosine["total"] is None  # it has no rows
    assert sqnr_db["n"] is None
    assert any("'n' is not of a float type" in note for note in found.notes)


def test_rows_that_only_fill_a_fixed_batch_do_not_count() -> None:
    def sloppy(x: Array) -> list[Array]:
        answer = np.array(x)
        answer[2:] += 100.0
        return [answer]

    original, variant = FakeModel(lambda x: [x]), FakeModel(sloppy)
    for model in (original, variant):
        model.inputs = (TensorSpec("x", "FP32", (4, 4)),)
    found = _compare(original, variant, indices=np.arange(2))
    assert found.samples == 2
    assert found.figure("agreement").variant == 1.0
    assert found.figure("sqnr_db").variant is None  # equal


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_variant_that_answers_no_number_where_the_original_does_fails(bad: float) -> None:
    def broken(x: Array) -> list[Array]:
        answer = np.array(x)
        answer[(x == _X[33]).all(axis=1)] = bad
        return [answer]

    with pytest.raises(JobFailed, match=r"'y' of the variant is NaN or infinite"):
        _compare(FakeModel(lambda x: [x]), FakeModel(broken))


def test_an_original_that_answers_no_number_itself_is_no_fault_of_the_variant() -> None:
    def broken(x: Array) -> list[Array]:
        return [np.where(x > 1, np.inf, x)]

    found = _compare(FakeModel(broken), FakeModel(broken))
    assert found.figure("sqnr_db").variant is None
    assert found.figure("agreement").variant == 1.0
    assert any("not finite in the original" in note for note in found.notes)


def test_a_failing_variant_is_an_error_and_not_a_hang() -> None:
    def refuses(x: Array) -> list[Array]:
        raise JobFailed("no")

    with pytest.raises(JobFailed, match="no"):
        _compare(FakeModel(lambda x: [x]), FakeModel(refuses))
