"""Gemm in normal form computes what it did in any other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from tests.worker import models
from tests.worker.runtime import run
from worker.graph import gemm


@pytest.mark.parametrize("attributes", [{}, {"transB": 1}, {"alpha": 0.5, "beta": 2.0}, {"transB": 1, "beta": 0.0}])
@pytest.mark.parametrize("bias", [None, (1,), (5,), (1, 5), (2, 1), (2, 5), ()])
@pytest.mark.parametrize("split", [False, True])
def test_normal_form_and_split_keep_the_answer(
    tmp_path: Path, attributes: dict[str, Any], bias: tuple[int, ...] | None, split: bool
) -> None:
    weights = {"b": models.normal(*((5, 8) if attributes.get("transB") else (8, 5)))}
    inputs = ["x", "b"]
    if bias is not None:
        weights["c"] = np.asarray(models.normal(*bias, seed=2), np.float32)
        inputs.append("c")
    node = helper.make_node("Gemm", inputs, ["y"], "gemm", **attributes)
    proto = models.model([node], {"x": [2, 8]}, {"y": [2, 5]}, weights)
    x = models.normal(2, 8, seed=3)
    expected = run(models.write(proto, tmp_path), {"x": x})[0]
    gemm.normalize(proto.graph)
    if split:
        gemm.split(proto.graph)
    np.testing.assert_allclose(run(models.write(proto, tmp_path), {"x": x})[0], expected, rtol=1e-5, atol=1e-6)
    is_row = bias not in {(2, 1), (2, 5)}
    operators = [node.op_type for node in proto.graph.node]
    if is_row:
        assert gemm.is_normal(proto.graph.node[0])
        assert operators[0] == ("MatMul" if split else "Gemm")
    if is_row and not split and bias is not None:
        assert list(next(t for t in proto.graph.initializer if t.name == proto.graph.node[0].input[2]).dims) == [5]


def test_a_weight_that_two_gemms_share_is_not_changed_under_either(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "b"], ["h"], "first", transB=1, alpha=2.0),
        helper.make_node("Gemm", ["h", "b"], ["y"], "second"),
    ]
    proto = models.model(nodes, {"x": [2, 8]}, {"y": [2, 8]}, {"b": models.normal(8, 8)})
    x = models.normal(2, 8, seed=3)
    expected = run(models.write(proto, tmp_path), {"x": x})[0]
    gemm.normalize(proto.graph)
    np.testing.assert_allclose(run(models.write(proto, tmp_path), {"x": x})[0], expected, rtol=1e-4)
