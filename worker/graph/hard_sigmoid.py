"""HardSigmoid in integers: the runtime has no kernel for it, but a saturating addition is one.

HardSigmoid(x) = clip(α·x + β, 0, 1) = α·clip(x + β/α, 0, 1/α). Integers of scale 1/255 and zero point 0 stand for 0 to
1 and no more, so storing x + β/α in integers of scale 1/(255·α) clips it, and reading them with the scale 1/255
multiplies by α. With the Mul behind it, that is how hard-swish stays in integers.
"""

import numpy as np
import onnx
from onnx import helper

from worker.graph import order
from worker.graph.constants import Constants
from worker.graph.readers import Readers

#: The range its output must be written with.
OUTPUT_RANGE = (0.0, 1.0)

_LARGEST = 255

# HardSigmoid(0) is as a rule a half, which lies between two integers: kernels must not differ in which one it becomes.
_UPWARDS = 1.0 + 1e-6


def lower(model: onnx.ModelProto) -> int:
    """Rewrite each HardSigmoid of a QDQ `model` that lies between integers; returns how many."""
    graph = model.graph
    readers, constants = Readers(model), Constants(graph)
    integers = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    lowered = 0
    for node in list(graph.node):
        if node.op_type != "HardSigmoid" or node.input[0] not in integers:
            continue
        quantize = readers.sole(node.output[0])
        alpha, beta = _coefficients(node)
        if quantize is None or quantize.op_type != "QuantizeLinear" or alpha <= 0.0 or beta <= 0.0:
            continue
        zero_point = constants[quantize.input[2]]
        scale = constants[quantize.input[1]]
        quantize.input[1] = constants.add(f"{node.output[0]}_shifted_scale", (scale / alpha).astype(np.float32))
        shift = _constant(graph, constants, node, beta / alpha, zero_point.dtype)
        node.CopyFrom(helper.make_node("Add", [node.input[0], shift], node.output, node.name))
        lowered += 1
    order.sort(graph)
    return lowered


def _coefficients(node: onnx.NodeProto) -> tuple[float, float]:
    given = {attribute.name: attribute.f for attribute in node.attribute}
    return given.get("alpha", 0.2), given.get("beta", 0.5)


def _constant(graph: onnx.GraphProto, constants: Constants, node: onnx.NodeProto, value: float, dtype: np.dtype) -> str:
    """A scalar `value` > 0, as good as exact, behind a DequantizeLinear; returns the name of what that gives."""
    name = f"{node.output[0]}_shift"
    low = int(np.iinfo(dtype).min)
    inputs = [
        constants.add(f"{name}_quantized", np.array(low + _LARGEST, dtype)),
        constants.add(f"{name}_scale", np.float32(value * _UPWARDS / _LARGEST)),
        constants.add(f"{name}_zero_point", np.array(low, dtype)),
    ]
    graph.node.append(helper.make_node("DequantizeLinear", inputs, [name], name))
    return name
