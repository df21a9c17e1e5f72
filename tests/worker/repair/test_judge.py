"""One number that says how noisy a candidate is."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.worker import models
from tests.worker.models import ENGINE
from worker.repair.judge import Judge, decibels


def _scaled(factors: list[float]) -> onnx.ModelProto:
    """x (n, 2) → each column times its factor."""
    return models.model(
        [helper.make_node("Mul", ["x", "f"], ["y"])],
        {"x": ["n", 2]},
        {"y": ["n", 2]},
        {"f": np.array(factors, np.float32)},
    )


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    x = models.normal(40, 2) * np.array([100.0, 0.01], np.float32)
    return Judge(models.write(_scaled([1, 1]), tmp_path), {"x": x}, np.arange(40), engine=ENGINE, threads=1)


def test_the_upload_itself_has_no_noise(judge: Judge, tmp_path: Path) -> None:
    assert judge.noise(tmp_path / "original.onnx") == 0.0
    assert judge.samples == 40
    assert judge.has_floats


def test_each_channel_counts_by_itself(judge: Judge, tmp_path: Path) -> None:
    small_one_off = judge.noise(models.write(_scaled([1, 1.1]), tmp_path, "a.onnx"))
    large_one_off = judge.noise(models.write(_scaled([1.1, 1]), tmp_path, "b.onnx"))
    assert small_one_off == pytest.approx(0.01 / 2, rel=1e-3)
    assert large_one_off == pytest.approx(small_one_off, rel=1e-3)


def test_no_channel_counts_for_more_than_all_of_its_signal(judge: Judge, tmp_path: Path) -> None:
    assert judge.noise(models.write(_scaled([1, 50]), tmp_path, "a.onnx")) == pytest.approx(0.5)


def test_an_answer_that_is_not_finite_is_the_worst(judge: Judge, tmp_path: Path) -> None:
    assert judge.noise(models.write(_scaled([1, np.inf]), tmp_path, "a.onnx")) == np.inf


def test_class_numbers_are_not_judged(tmp_path: Path) -> None:
    model = models.model([helper.make_node("ArgMax", ["x"], ["y"], axis=1, keepdims=0)], {"x": ["n", 2]}, {}, {})
    model.graph.output.append(helper.make_tensor_value_info("y", onnx.TensorProto.INT64, ["n"]))
    source = models.write(model, tmp_path)
    judge = Judge(source, {"x": models.normal(8, 2)}, np.arange(8), engine=ENGINE, threads=1)
    assert not judge.has_floats
    assert judge.noise(source) == 0.0


def test_decibels_of_noise_over_signal() -> None:
    assert decibels(0.01) == pytest.approx(20.0)
    assert decibels(0.0) is None
    assert decibels(np.inf) is None
