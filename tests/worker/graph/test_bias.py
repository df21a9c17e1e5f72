"""Bias correction: the mean error is found, and gone after."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.worker import models
from tests.worker.runtime import run
from worker.graph.bias import correct, observe_errors
from worker.graph.integer_types import IntegerTypes
from worker.graph.weights import Scales, weights

_LARGEST = 127
_TYPES = IntegerTypes("uint8", False, "")


def _model(operator: str, *, bias: bool, opset: int = 17) -> onnx.ModelProto:
    """x → one node named `op` → y, behind which, for a MatMul with bias, there is an Add."""
    given = {"b": models.normal(6, seed=2)} if bias else {}
    if operator == "Conv":
        given["w"] = models.normal(6, 2, 3, 3, seed=1)
        node = helper.make_node("Conv", ["x", "w", *(["b"] if bias else [])], ["y"], "op", group=2, pads=[1] * 4)
        return models.model([node], {"x": ["n", 4, 5, 5]}, {"y": None}, given, opset=opset)
    given["w"] = models.normal(4, 6, seed=1)
    if operator == "Gemm":
        node = helper.make_node("Gemm", ["x", "w", *(["b"] if bias else [])], ["y"], "op")
        return models.model([node], {"x": ["n", 4]}, {"y": None}, given, opset=opset)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p" if bias else "y"], "op")]
    if bias:
        nodes.append(helper.make_node("Add", ["b", "p"], ["y"], "add"))
    return models.model(nodes, {"x": ["n", 3, 4]}, {"y": None}, given, opset=opset)


def _x(operator: str) -> np.ndarray:
    shape = {"Conv": (32, 4, 5, 5), "Gemm": (32, 4), "MatMul": (32, 3, 4)}[operator]
    return models.normal(*shape, seed=3) + 1.0


def _coarse(model: onnx.ModelProto) -> dict[str, Scales]:
    """Scales that round weights to a handful of values."""
    return {found.name: found.plain(3) for found in weights(model, frozenset({"op"}), per_channel=True)}


def _errors(operator: str, folder: Path, *, bias: bool, opset: int = 17) -> dict[str, np.ndarray]:
    x = _x(operator)
    model = _model(operator, bias=bias, opset=opset)
    found = list(weights(model, frozenset({"op"}), per_channel=True))
    bounds = {"x": (float(x.min()), float(x.max()))}
    assert observe_errors(model, found, _coarse(model), _LARGEST, bounds, _TYPES) == ["op"]
    return {"op": run(models.write(model, folder, "observed.onnx"), {"x": x})[0]}


def _rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    for found in weights(model, frozenset({"op"}), per_channel=True):
        values = found.rounded(_coarse(model)[found.name], _LARGEST)
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == found.name)
        shape = np.delete(tensor.dims, found.axis)
        tensor.CopyFrom(
            onnx.numpy_helper.from_array(
                np.ascontiguousarray(np.moveaxis(values.reshape(-1, *shape), 0, found.axis)), found.name
            )
        )
    return model


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize(
    ("operator", "bias"), [("Conv", True), ("Conv", False), ("Gemm", True), ("Gemm", False), ("MatMul", True)]
)
def test_the_mean_error_is_taken_back(tmp_path: Path, operator: str, bias: bool, opset: int) -> None:
    x = _x(operator)
    expected = run(models.write(_model(operator, bias=bias), tmp_path), {"x": x})[0]
    axes = (0, 2, 3) if operator == "Conv" else tuple(range(expected.ndim - 1))
    plain = _rounded(_model(operator, bias=bias))
    before = run(models.write(plain, tmp_path), {"x": x})[0]

    correct(plain, _errors(operator, tmp_path, bias=bias, opset=opset))

    after = run(models.write(plain, tmp_path), {"x": x})[0]
    left = np.abs((expected - after).mean(axis=axes))
    assert left.max() < 0.1 * np.abs((expected - before).mean(axis=axes)).max()


def test_a_matmul_without_an_addition_keeps_its_error(tmp_path: Path) -> None:
    model = _model("MatMul", bias=False)
    before = model.SerializeToString()
    correct(model, {"op": np.ones(6, np.float32)})
    assert model.SerializeToString() == before


def test_a_bias_that_others_share_is_theirs_still() -> None:
    model = _model("Conv", bias=True)
    model.graph.node.append(helper.make_node("Identity", ["b"], ["z"], "other"))
    correct(model, {"op": np.ones(6, np.float32)})
    assert model.graph.node[0].input[2] != "b"
    assert model.graph.node[1].input[0] == "b"


def test_inputs_without_a_range_are_passed_over() -> None:
    model = _model("Conv", bias=True)
    found = list(weights(model, frozenset({"op"}), per_channel=True))
    assert observe_errors(model, found, _coarse(model), _LARGEST, {}, _TYPES) == []
