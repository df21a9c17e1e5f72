"""Accuracy, agreement and their intervals, on answers of known classes."""

import numpy as np
import pytest
from numpy.typing import NDArray

from app.engines.classes import ClassOutput
from worker.evaluation.metrics import AnswerBatch, OutputBatch, Subject
from worker.evaluation.metrics.accuracy import Accuracy
from worker.evaluation.metrics.agreement import Agreement
from worker.evaluation.statistics import paired_test

_TRUTH = np.zeros(1000, np.int64)


def _batches(subject: Subject, wrong: tuple[int, int, int]) -> list[AnswerBatch]:
    """Of the samples, so many are wrong in both, in the variant only, and in the original only."""
    both, lost, gained = wrong
    original, variant = np.zeros(1000, np.int64), np.zeros(1000, np.int64)
    original[: both + gained] = variant[:both] = 1
    variant[both + gained : both + gained + lost] = 1
    return [
        AnswerBatch(subject, rows, (OutputBatch("y", original[rows], variant[rows], True, False),))
        for rows in np.array_split(np.arange(1000), 7)
    ]


def _measured(labels: NDArray[np.int64] | None) -> tuple[Accuracy, Agreement]:
    subject = Subject(("y",), ClassOutput(0, None), labels)
    accuracy, agreement = Accuracy(subject), Agreement(subject)
    for batch in _batches(subject, (194, 10, 6)):
        if labels is not None:
            accuracy.add(batch)
        agreement.add(batch)
    return accuracy, agreement


def test_accuracy_counts_what_was_lost_and_gained() -> None:
    accuracy, agreement = _measured(_TRUTH)
    found = accuracy.figure()
    assert (found.original, found.variant) == (0.8, 0.796)
    assert accuracy.paired_test == paired_test(10, 6, 1000)
    assert found.low is not None
    assert found.high is not None
    assert found.low < -0.004 < 0.0 < found.high
    assert agreement.figure().variant == 0.984


def test_without_labels_there_is_no_test() -> None:
    accuracy, _ = _measured(None)
    assert accuracy.paired_test is None
    assert not Accuracy.applies_to(accuracy.subject)


def test_agreement_decides_only_where_there_are_no_labels() -> None:
    assert _measured(_TRUTH)[1].breach(0.001) is None
    breach = _measured(None)[1].breach(0.001)
    assert breach is not None
    assert "the top-1 of 1.60% of 1000 held-out samples changed" in breach.words


@pytest.mark.parametrize("labels", [None, _TRUTH])
def test_the_interval_of_agreement_holds_it(labels: NDArray[np.int64] | None) -> None:
    found = _measured(labels)[1].figure()
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.984 < found.high
