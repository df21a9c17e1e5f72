"""Activations of fewer than 8 bits, in 8: coarser steps, and a Clip of the integers to as many as there would be.

What a device of fewer bits would answer can be tried that way on any CPU, with the integer kernels of 8 bits.
"""

import numpy as np
import onnx
from onnx import helper

from worker.graph import order
from worker.graph.constants import Constants
from worker.graph.integer_types import IntegerTypes

_FULL_STEPS = 255


def stretched(low: float, high: float, types: IntegerTypes) -> tuple[float, float]:
    """The range that 8 bits have to be given for their steps to be those of `types` over `low` to `high`."""
    low, high = min(low, 0.0), max(high, 0.0)
    return low, low + (high - low) * (_FULL_STEPS / (types.levels - 1))


def clip_integers(model: onnx.ModelProto, types: IntegerTypes) -> None:
    """Clip what each QuantizeLinear of a QDQ `model` writes to the lowest `types.levels` integers of its type."""
    if types.levels > _FULL_STEPS:
        return
    graph, constants = model.graph, Constants(model.graph)
    limits = np.iinfo(types.activation)
    low = constants.add("octet_lowest_integer", np.array(limits.min, types.activation))
    high = constants.add("octet_highest_integer", np.array(limits.min + types.levels - 1, types.activation))
    for node in [node for node in graph.node if node.op_type == "QuantizeLinear"]:
        written = node.output[0]
        node.output[0] = f"{written}_unclipped"
        graph.node.append(helper.make_node("Clip", [node.output[0], low, high], [written], f"{written}_clip"))
    order.sort(graph)
