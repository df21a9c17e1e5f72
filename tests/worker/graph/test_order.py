"""Nodes come after what they read."""

import onnx
import pytest
from onnx import TensorProto, helper

from tests.worker import models
from worker.graph import order


def _branch(node: onnx.NodeProto) -> onnx.GraphProto:
    return helper.make_graph(
        [node], "branch", [], [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, [1])]
    )


def test_a_node_comes_after_what_its_subgraph_reads() -> None:
    inner = _branch(helper.make_node("Neg", ["late"], ["n"]))
    other = _branch(helper.make_node("Abs", ["x"], ["a"]))
    nodes = [
        helper.make_node("If", ["c"], ["y"], "if", then_branch=inner, else_branch=other),
        helper.make_node("Exp", ["early"], ["late"], "second"),
        helper.make_node("Log", ["x"], ["early"], "first"),
    ]
    proto = models.model(nodes, {"x": [1], "c": (TensorProto.BOOL, [])}, {"y": [1]})
    order.sort(proto.graph)
    assert [node.name for node in proto.graph.node] == ["first", "second", "if"]


def test_an_order_that_is_right_already_stays() -> None:
    proto = models.classifier()
    names = [node.name for node in proto.graph.node]
    order.sort(proto.graph)
    assert [node.name for node in proto.graph.node] == names


def test_a_cycle_is_an_error() -> None:
    nodes = [helper.make_node("Neg", ["b"], ["a"], "one"), helper.make_node("Neg", ["a"], ["b"], "two")]
    with pytest.raises(ValueError, match="cycle"):
        order.sort(models.model(nodes, {"x": [1]}, {"a": [1]}).graph)
