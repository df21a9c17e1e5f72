"""Pairs of answers compared, and a thread that computes them with real models."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.blobs import open_store
from app.experiments.recorder import Pair
from app.experiments.shadow import Shadowed, Shadows, paired
from app.serving.batches import Work
from app.serving.pool import Artifact, Pool
from app.settings import Settings
from tests import graphs
from tests.app.serving.artifacts import kept_model

SCORES = np.array([[0.1, 3.0, 2.0], [5.0, 1.0, 0.0]], np.float32)


def compared(other: np.ndarray, right: np.ndarray = SCORES) -> Pair:  # type: ignore[type-arg]
    return paired(([right], 20), ([other], 10), len(right))


def test_equal_answers_agree() -> None:
    assert compared(SCORES) == Pair(20, 10, agree=True, cosine=pytest.approx(1.0), max_abs_difference=0.0)


def test_the_classes_of_a_single_row_are_told() -> None:
    assert compared(SCORES[:1, ::-1], SCORES[:1]).classes == (1, 1)
    assert compared(SCORES[:1], np.array([[9.0, 3.0, 2.0]], np.float32)).classes == (0, 1)
    assert compared(np.array([7]), np.array([3])).classes == (3, 7)
    # Of more rows, one label could not say which it is of.
    assert compared(SCORES).classes is None


def test_one_row_of_another_top_1_is_disagreement() -> None:
    other = SCORES.copy()
    other[1] = [0.5, 1.0, 0.0]
    pair = compared(other)
    assert pair.agree is False
    assert pair.max_abs_difference == 4.5
    assert pair.cosine is not None
    assert pair.cosine < 1


def test_embeddings_have_no_top_1() -> None:
    right = SCORES / np.linalg.norm(SCORES, axis=1, keepdims=True)
    pair = compared(-right, right)
    assert pair.agree is None
    assert pair.cosine == pytest.approx(-1.0)


def test_what_is_no_number_has_no_angle() -> None:
    words = np.array([[b"a"]], dtype=np.object_)
    assert compared(words, words) == Pair(20, 10, agree=None, cosine=None, max_abs_difference=0.0)
    assert compared(np.zeros_like(SCORES)).cosine is None


class Recorded:
    def __init__(self) -> None:
        self.pairs: list[tuple[str, str, Pair]] = []

    def paired(self, experiment: str, arms: Any, variant: str, pair: Pair, request_id: str) -> None:
        self.pairs.append((experiment, variant, pair))


class House:
    def __init__(self, folder: Path) -> None:
        self.blobs = open_store(Settings(home=folder))
        self.pool = Pool(self.blobs, folder, folder / "mapped", intra_op_threads=1)
        self.recorded = Recorded()
        self.shadows = Shadows(self.pool, self.recorded)  # type: ignore[arg-type]
        self.control, self.other = (
            kept_model(self.blobs, graphs.linear_classifier(seed=seed), folder) for seed in (0, 1)
        )

    def asked(self, variant: Artifact, value: float) -> Shadowed:
        work = Work({"x": np.full((1, 16), value, np.float32)})
        return Shadowed("e", ("original", "int8"), "int8", variant, self.control, work, "r1")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.shadows.stop()
    house.pool.close()


def test_both_answer_and_are_compared(house: House) -> None:
    house.shadows.start()
    for variant in (house.control, house.other):
        assert house.shadows.offer(house.asked(variant, 1.0))
    while len(house.recorded.pairs) < 2:
        time.sleep(0.01)
    (experiment, variant, same), (_, _, different) = house.recorded.pairs
    assert (experiment, variant) == ("e", "int8")
    assert (same.agree, same.max_abs_difference) == (True, 0.0)
    assert same.control_ns > 0 < same.variant_ns
    assert different.max_abs_difference > 0


def test_of_too_many_the_newest_are_dropped(house: House) -> None:
    taken = [house.shadows.offer(house.asked(house.other, 1.0)) for _ in range(100)]
    assert taken == sorted(taken, reverse=True)
    assert 0 < sum(taken) < 100


def test_a_shadow_that_fails_is_logged_and_ends_nothing(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.shadows.start()
    house.shadows.offer(house.asked(Artifact("onnxruntime", "0" * 64), 1.0))
    house.shadows.offer(house.asked(house.other, 1.0))
    while not house.recorded.pairs:
        time.sleep(0.01)
    assert "gave no answer" in caplog.text
