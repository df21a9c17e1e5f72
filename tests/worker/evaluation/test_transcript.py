"""Whose answer changed."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.engines.classes import ClassOutput
from tests.worker.evaluation.fakes import Array, FakeModel
from worker.evaluation.heldout import compare
from worker.evaluation.thumbnails import find_images
from worker.evaluation.transcript import MOST_LOST, MOST_SAMPLES, Transcript, probabilities
from worker.samples import Feeder

_CLASSES = ClassOutput(0, 4)


def _noted(left: Array, right: Array, truth: Array | None, *, batch: int = 7) -> Transcript:
    transcript = Transcript()
    for start in range(0, len(left), batch):
        rows = slice(start, start + batch)
        indices = np.arange(len(left))[rows]
        transcript.add_classes(_CLASSES, indices, [left[rows]], [right[rows]], None if truth is None else truth[rows])
    return transcript


def _scores(seed: int, rows: int = 200) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, 4)).astype(np.float32)


@given(st.integers(0, 1000), st.integers(1, 120), st.booleans())
def test_changes_are_those_whose_top_1_differs(seed: int, rows: int, labelled: bool) -> None:
    left, right = _scores(seed, rows), _scores(seed + 1, rows)
    truth = np.random.default_rng(seed).integers(0, 4, rows) if labelled else None
    changed = np.flatnonzero(left.argmax(axis=1) != right.argmax(axis=1))
    found: Any = _noted(left, right, truth).changes(None, None)
    assert (found["changed"], found["samples_compared"]) == (len(changed), rows)
    assert len(found["samples"]) == min(len(changed), MOST_SAMPLES)
    assert {one["sample"] for one in found["samples"]} <= set(changed.tolist())
    for one in found["samples"]:
        assert one["original"] == str(left[one["sample"]].argmax())
        assert one["variant"] == str(right[one["sample"]].argmax())
        assert 0.0 <= one["margin"] <= one["original_probability"] <= 1.0
        if truth is None:
            assert one["change"] == "unknown"
        else:
            assert one["label"] == str(truth[one["sample"]])
            right_before = one["original"] == one["label"]
            assert (one["change"] == "lost") == right_before


def test_those_lost_come_first_and_of_these_the_surest() -> None:
    left, right = _scores(0), _scores(1)
    truth = left.argmax(axis=1)
    truth[::2] = right.argmax(axis=1)[::2]
    found: Any = _noted(left, right, truth).changes(None, None)
    changes = [one["change"] for one in found["samples"]]
    assert changes == ["lost"] * MOST_LOST + ["gained"] * (MOST_SAMPLES - MOST_LOST)
    margins = [one["margin"] for one in found["samples"] if one["change"] == "lost"]
    assert margins == sorted(margins, reverse=True)


def test_where_all_were_lost_no_place_is_left_empty() -> None:
    left, right = _scores(0), _scores(1)
    found: Any = _noted(left, right, left.argmax(axis=1)).changes(None, None)
    assert [one["change"] for one in found["samples"]] == ["lost"] * MOST_SAMPLES


def test_samples_that_are_images_come_with_one() -> None:
    images = find_images({"x": np.random.default_rng(0).random((200, 3, 8, 8)).astype(np.float32)}, ["x"])
    found: Any = _noted(_scores(0), _scores(1), None).changes(None, images)
    assert all(one["image"].startswith("data:image/png;base64,") for one in found["samples"])
    nothing: Any = _noted(_scores(0), _scores(0), None).changes(None, images)
    assert (nothing["changed"], nothing["samples"]) == (0, [])


def test_probabilities_stay_and_scores_are_made_such() -> None:
    given_ones = np.array([[0.25, 0.75], [1.0, 0.0]])
    assert np.array_equal(probabilities(given_ones), given_ones)
    found = probabilities(np.array([[1000.0, 1001.0]], np.float32))
    assert found[0, 1] == pytest.approx(1 / (1 + np.exp(-1)))


def test_embeddings_are_told_by_their_cosine_the_least_alike_first() -> None:
    x = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)

    def unit(x: Array) -> list[Array]:
        return [x / np.linalg.norm(x, axis=1, keepdims=True)]

    def turned(x: Array) -> list[Array]:
        values = unit(x)[0]
        values[(x == _turned).all(axis=1)] *= -1
        return [values]

    _turned = x[31]
    original = FakeModel(unit)
    transcript = Transcript()
    compare(
        original,
        FakeModel(turned),
        Feeder(original.inputs, {"x": x}),
        np.arange(50),
        None,
        batch=8,
        progress=lambda share: None,
        transcript=transcript,
    )
    found: Any = transcript.changes(None, None)
    assert found["kind"] == "outputs"
    assert found["samples"][0] == {"sample": 31, "cosine": pytest.approx(-1.0)}
    assert found["cosine_quantiles"]["50"] == pytest.approx(1.0)
    assert transcript.confusion(None) is None


def test_a_model_by_itself_has_confusions_and_no_changes() -> None:
    transcript = Transcript()
    transcript.add_classes(_CLASSES, np.arange(5), [np.eye(5, 4)], None, np.zeros(5, np.int64))
    assert transcript.changes(None, None) is None
    found: Any = transcript.confusion(["zero"])
    assert found["original"][0] == [2, 1, 1, 1]
