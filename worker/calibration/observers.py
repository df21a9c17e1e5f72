"""Minimum and maximum of chosen tensors, found inside the graph so that only scalars leave it."""

from collections.abc import Sequence

import onnx
from onnx import helper

_LOW, _HIGH = "octet_lowest:", "octet_highest:"


def observe(model: onnx.ModelProto, tensors: Sequence[str]) -> None:
    """Make the outputs of `model` two scalars for each of `tensors`, in their order: all lowest, then all highest.

    The nodes that only the former outputs needed are left to the runtime to drop.
    """
    graph = model.graph
    del graph.output[:]
    for prefix, operator in ((_LOW, "ReduceMin"), (_HIGH, "ReduceMax")):
        for name in tensors:
            # Without axes, both forms of the operator (attribute, and input since opset 18) reduce all of them.
            graph.node.append(helper.make_node(operator, [name], [prefix + name], prefix + name, keepdims=0))
            graph.output.append(helper.make_tensor_value_info(prefix + name, onnx.TensorProto.FLOAT, []))
