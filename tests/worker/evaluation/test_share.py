"""Which output tells the class, and how often it is right."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.engines.classes import ClassOutput, find_class_output
from tests.worker import models
from worker.evaluation.share import Share


def _unit(values: NDArray[Any]) -> NDArray[Any]:
    return values / np.linalg.norm(values, axis=1, keepdims=True)


_SCORES = models.normal(6, 10)
_CONFIDENT = np.eye(10, dtype=np.float32)[[1, 2, 3, 4, 5, 6]]
_IDS = np.arange(6)


@pytest.mark.parametrize(
    ("outputs", "found"),
    [
        ([_SCORES], ClassOutput(0, 10)),
        ([_unit(_SCORES)], None),
        ([_CONFIDENT], ClassOutput(0, 10)),
        ([_unit(np.abs(_SCORES))], None),
        ([models.normal(6, 4, 4), _SCORES], ClassOutput(1, 10)),
        ([_SCORES[:5]], None),
        ([_SCORES[:, :1]], None),
        ([_IDS, _SCORES], ClassOutput(0, None)),
        ([np.where(_SCORES > 1, np.nan, _SCORES)], ClassOutput(0, 10)),
        ([], None),
    ],
    ids=["scores", "embeddings", "one-hot", "positive embeddings", "second", "rows", "column", "ids", "nan", "none"],
)
def test_scores_are_told_from_embeddings_and_the_rest(outputs: list[NDArray[Any]], found: ClassOutput | None) -> None:
    assert find_class_output(outputs, 6) == found


def test_the_class_is_the_highest_score_or_the_number_itself() -> None:
    np.testing.assert_array_equal(ClassOutput(0, 10).read([_CONFIDENT]), [1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(ClassOutput(1, None).read([_SCORES, _IDS]), _IDS)


@pytest.mark.parametrize(("labels", "tells"), [([0, 9], True), ([0, 10], False), ([-1, 3], False)])
def test_labels_must_be_classes_of_the_output(labels: list[int], tells: bool) -> None:
    assert ClassOutput(0, 10).tells(np.array(labels)) == tells
    assert not ClassOutput(0, 10).tells(None)


def test_a_share_counts_over_batches() -> None:
    share = Share()
    assert share.value is None
    share.add(np.array([1, 2, 3]), np.array([1, 2, 0]))
    share.add(np.array([4]), np.array([0]))
    assert share.value == 0.5
