"""What becomes integer, and why the rest does not."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.worker import models
from worker import onnx_files
from worker.graph import gemm
from worker.graph.prepare import prepare
from worker.graph.selection import select_dynamic, select_static


def _prepared(proto: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    return onnx_files.load(prepare(models.write(proto, folder), folder))


def _conv_then(*nodes: onnx.NodeProto, outputs: dict[str, Any] | None = None, **weights: Any) -> onnx.ModelProto:
    conv = helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1] * 4)
    return models.model(
        [conv, *nodes], {"x": ["n", 3, 8, 8]}, outputs or {"y": None}, {"w": models.normal(4, 3, 3, 3), **weights}
    )


def test_a_convolutional_classifier_is_integer_from_end_to_end(tmp_path: Path) -> None:
    model = _prepared(models.classifier(), tmp_path)
    selection = select_static(model)
    assert set(selection.nodes) == {node.name for node in model.graph.node}
    assert selection.left == {}


def test_what_is_before_a_relu_shares_its_range_and_is_not_observed(tmp_path: Path) -> None:
    selection = select_static(_prepared(_conv_then(helper.make_node("Relu", ["c"], ["y"], "relu")), tmp_path))
    assert selection.same_range == {"c": "y"}
    assert set(selection.activations) == {"x", "y"}


def test_a_chain_of_clips_shares_the_range_of_its_end(tmp_path: Path) -> None:
    proto = _conv_then(
        helper.make_node("Clip", ["c", "low", "high"], ["d"], "clip"),
        helper.make_node("Relu", ["d"], ["y"], "relu"),
        low=np.float32(-1.0),
        high=np.float32(6.0),
    )
    assert select_static(_prepared(proto, tmp_path)).same_range == {"c": "y", "d": "y"}


@pytest.mark.parametrize(("low", "high", "taken"), [(0.0, 6.0, True), (0.1, 1.0, False), (-2.0, -1.0, False)])
def test_a_clip_is_taken_only_if_a_quantized_range_can_stand_for_it(
    tmp_path: Path, low: float, high: float, taken: bool
) -> None:
    proto = _conv_then(
        helper.make_node("Clip", ["c", "low", "high"], ["y"], "clip"), low=np.float32(low), high=np.float32(high)
    )
    assert ("clip" in select_static(_prepared(proto, tmp_path)).nodes) == taken


def test_a_sum_is_integer_only_where_all_of_it_is(tmp_path: Path) -> None:
    both = _conv_then(helper.make_node("Add", ["c", "c"], ["y"], "add"))
    one = _conv_then(
        helper.make_node("Softplus", ["c"], ["s"], "soft"), helper.make_node("Add", ["c", "s"], ["y"], "add")
    )
    assert "add" in select_static(_prepared(both, tmp_path)).nodes
    assert "add" not in select_static(_prepared(one, tmp_path)).nodes


def test_a_transformers_interior_stays_in_fp32(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["q"], "query"),
        helper.make_node("Add", ["q", "x"], ["r"], "residual"),
        helper.make_node("Softmax", ["r"], ["s"], "softmax"),
        helper.make_node("MatMul", ["s", "v"], ["y"], "value"),
    ]
    weights = {"w": models.normal(8, 8), "v": models.normal(8, 8, seed=1)}
    selection = select_static(_prepared(models.model(nodes, {"x": ["n", 4, 8]}, {"y": ["n", 4, 8]}, weights), tmp_path))
    assert set(selection.nodes) == {"query", "value"}
    assert set(selection.activations) == {"x", "s"}


def test_reasons_are_given_for_what_has_no_integer_kernel(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["inner"], "inside")],
        "then",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    other = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["inner2"], "inside2")],
        "else",
        [],
        [helper.make_tensor_value_info("inner2", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("MatMul", ["x", "x"], ["square"], "square"),
        helper.make_node("MatMul", ["square", "stack"], ["many"], "stacked"),
        helper.make_node("ReduceMax", ["many"], ["top"], "top", axes=[0], keepdims=0),
        helper.make_node("If", ["c"], ["branch"], "if", then_branch=body, else_branch=other),
        helper.make_node("Add", ["branch", "top"], ["y"], "add"),
    ]
    proto = models.model(
        nodes,
        {"x": [8, 8], "c": (TensorProto.BOOL, [])},
        {"y": [8, 8]},
        {"w": models.normal(8, 8), "stack": models.normal(2, 8, 8)},
    )
    selection = select_static(_prepared(proto, tmp_path))
    assert selection.computing == 0
    assert selection.left == {
        "MatMul whose weight is not constant": 1,
        "MatMul whose weight is not a matrix": 1,
        "it is inside control flow": 2,
    }


def test_dynamic_takes_products_and_large_tables_and_leaves_convolutions(tmp_path: Path) -> None:
    encoder = _prepared(models.token_encoder(), tmp_path)
    selection = select_dynamic(encoder)
    assert set(selection.nodes) == {"up", "down"}
    assert selection.tables == ("lookup",)
    assert selection.computing == 2

    classifier = _prepared(models.classifier(), tmp_path)
    gemm.split(classifier.graph)
    selection = select_dynamic(classifier)
    assert selection.computing == 1
    assert any("Conv" in note and note.startswith("2 ") for note in selection.notes)
