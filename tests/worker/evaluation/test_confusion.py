"""Which classes are taken for which."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from worker.evaluation.confusion import MOST_CLASSES, confusion

_ANSWERS = st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=1, max_size=60)


@given(_ANSWERS)
def test_a_matrix_counts_every_sample_at_its_label_and_answer(answers: list[tuple[int, int, int]]) -> None:
    truth, original, variant = np.array(answers).T
    found = confusion(truth, original, variant, None)
    assert found is not None
    for name, given_answers in (("original", original), ("variant", variant)):
        matrix = np.array(found[name])
        assert matrix.shape == (len(found["classes"]),) * 2
        assert matrix.sum() == len(answers)
        assert np.trace(matrix) == (given_answers == truth).sum()
        assert matrix[truth[0], given_answers[0]] >= 1
        assert (matrix.sum(axis=1) == np.bincount(truth, minlength=len(matrix))).all()


@given(_ANSWERS)
def test_without_labels_pairs_count_the_answers_that_changed(answers: list[tuple[int, int, int]]) -> None:
    _, original, variant = np.array(answers).T
    found = confusion(None, original, variant, None)
    changed = int((original != variant).sum())
    assert (found is None) == (changed == 0)
    if found is not None:
        counts = [pair["variant"] for pair in found["pairs"]]
        assert counts == sorted(counts, reverse=True)
        assert sum(counts) == changed or len(counts) == 20


def test_classes_have_names_where_the_model_has_them() -> None:
    found = confusion(np.array([0, 1]), np.array([0, 2]), None, ["cat", "dog"])
    assert found is not None
    assert found["classes"] == ["cat", "dog", "2"]
    assert found["variant"] is None


def test_of_many_classes_the_pairs_confused_most_are_told() -> None:
    truth = np.array([MOST_CLASSES] * 5 + [1] * 3)
    original = np.array([2] * 5 + [1] * 3)
    variant = np.array([2] * 4 + [MOST_CLASSES] + [0] * 3)
    found: Any = confusion(truth, original, variant, None)
    assert found["pairs"] == [
        {"from": str(MOST_CLASSES), "to": "2", "original": 5, "variant": 4},
        {"from": "1", "to": "0", "original": 0, "variant": 3},
    ]


def test_class_numbers_below_zero_are_pairs_too() -> None:
    found: Any = confusion(np.array([0]), np.array([-1]), np.array([0]), ["cat"])
    assert found["pairs"] == [{"from": "cat", "to": "-1", "original": 1, "variant": 0}]


def test_no_answer_tells_nothing() -> None:
    assert confusion(None, np.zeros(0, np.int64), None, None) is None
