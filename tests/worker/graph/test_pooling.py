"""Means over an image."""

import numpy as np
import pytest
from onnx import helper

from tests.worker import models
from worker.graph.pooling import normalize


def _mean(axes: list[int], keepdims: int, rank: int = 4, opset: int = 17) -> str:
    """The operator that a mean over `axes` ends as."""
    shape = ["n", 3, 8, 8, 8][:rank]
    weights = {}
    if opset < 18:
        node = helper.make_node("ReduceMean", ["x"], ["y"], axes=axes, keepdims=keepdims)
    else:
        node = helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=keepdims)
        weights["axes"] = np.array(axes)
    model = models.model([node], {"x": shape}, {"y": None}, weights, opset=opset)
    normalize(model)
    found: str = model.graph.node[0].op_type
    return found


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [3, -2]], ids=str)
def test_the_mean_over_positions_becomes_a_pool(axes: list[int], opset: int) -> None:
    assert _mean(axes, 1, opset=opset) == "GlobalAveragePool"


def test_other_means_stay() -> None:
    assert _mean([2, 3], 0) == "ReduceMean"
    assert _mean([1, 2], 1) == "ReduceMean"
    assert _mean([2, 3], 1, rank=5) == "ReduceMean"
