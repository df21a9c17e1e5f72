"""Minimum and maximum of chosen tensors, found inside the graph so that only scalars leave it."""

from collections.abc import Sequence

import onnx
from onnx import helper

# The third is for NaN, which the runtime's minimum and maximum may pass over: no sum does.
_REDUCTIONS = (("octet_lowest:", "ReduceMin"), ("octet_highest:", "ReduceMax"), ("octet_sum:", "ReduceSum"))

#: Scalars for each tensor.
SCALARS = len(_REDUCTIONS)


def observe(model: onnx.ModelProto, tensors: Sequence[str]) -> None:
    """Make scalars the outputs of `model`: the lowest of each of `tensors`, then the highest, then the sums.

    The nodes that only the former outputs needed are left to the runtime to drop.
    """
    graph = model.graph
    del graph.output[:]
    for prefix, operator in _REDUCTIONS:
        for name in tensors:
            # Without axes, both forms of the operators (attribute, and input in newer opsets) reduce all of them.
            graph.node.append(helper.make_node(operator, [name], [prefix + name], prefix + name, keepdims=0))
            graph.output.append(helper.make_tensor_value_info(prefix + name, onnx.TensorProto.FLOAT, []))
