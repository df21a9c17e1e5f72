"""SmoothQuant's alpha is found where outliers are, and only there."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from tests.worker import models
from tests.worker.models import ENGINE
from worker.graph.smooth import groups
from worker.repair.alphas import ALPHAS, best_alphas, sampled_rows


def _product() -> onnx.ModelProto:
    return models.model(
        [helper.make_node("Relu", ["z"], ["x"]), helper.make_node("MatMul", ["x", "w"], ["y"], "product")],
        {"z": ["n", 5, 32]},
        {"y": None},
        {"w": models.normal(32, 16)},
    )


def _alphas(rows: NDArray[np.float32]) -> dict[str, float]:
    model = _product()
    largest = {"x": np.abs(rows).max(axis=0).astype(np.float64)}
    return best_alphas(model, groups(model, frozenset({"product"})), largest, {"x": rows}, 127)


def test_outliers_in_one_channel_are_worth_a_multiplication() -> None:
    rows = models.normal(200, 32, seed=1)
    rows[:, 7] *= 80.0
    assert _alphas(rows)["x"] in ALPHAS


def test_channels_of_like_reach_are_not() -> None:
    assert _alphas(models.normal(200, 32, seed=1)) == {}


def test_a_tensor_of_which_nothing_is_known_stays() -> None:
    model = _product()
    assert best_alphas(model, groups(model, frozenset({"product"})), {}, {}, 127) == {}


@pytest.mark.parametrize("samples", [1, 40])
def test_rows_come_from_all_batches_but_are_not_too_many(tmp_path: Path, samples: int) -> None:
    source = models.write(_product(), tmp_path)
    z = np.abs(models.normal(40, 5, 32)) + np.arange(40).reshape(40, 1, 1).astype(np.float32)
    rows = sampled_rows(source, ["x"], {"z": z}, np.arange(samples), engine=ENGINE, threads=1)["x"]
    assert rows.shape == ({1: 5, 40: 128 + 40}[samples], 32)
    assert rows.max() > samples - 1
    assert [path.name for path in tmp_path.iterdir()] == ["original.onnx"]
