"""MatMulNBits, onnxruntime's product with a weight in a few bits: what a node of it holds, and how it is stored."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from worker.graph.blockwise import Blocks
from worker.graph.constants import Constants

_DOMAIN = "com.microsoft"

# Of the kernel: multiply in INT8, rows of the input rounded block by block. Several times faster than FP32, and a
# row's answer still depends on nothing but the row.
_INT8_COMPUTE = 4


def replace_products(model: onnx.ModelProto, found: Mapping[str, Blocks]) -> None:
    """Rewrite the MatMuls whose constant weights are named in `found`, and drop weights that nothing reads then."""
    graph, constants = model.graph, Constants(model.graph)
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in found:
            node.CopyFrom(_product(node, found[node.input[1]], constants))
    read = {name for node in graph.node for name in node.input}
    for position in reversed(range(len(graph.initializer))):
        name = graph.initializer[position].name
        if name in found and name not in read:
            del graph.initializer[position]
    if all(entry.domain != _DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))


def _product(node: onnx.NodeProto, blocks: Blocks, constants: Constants) -> onnx.NodeProto:
    outputs, _, size = blocks.integers.shape
    name = node.input[1]
    stored: list[tuple[str, NDArray[Any]]] = [
        (f"{name}_blocks", packed(blocks.integers, blocks.bits)),
        (f"{name}_scales", blocks.scales.reshape(-1)),
        (f"{name}_zero_points", packed(blocks.zero_points, blocks.bits).reshape(-1)),
    ]
    inputs = [key if key in constants else constants.add(key, values) for key, values in stored]
    return helper.make_node(
        "MatMulNBits",
        [node.input[0], *inputs],
        node.output,
        node.name,
        domain=_DOMAIN,
        K=blocks.inputs,
        N=outputs,
        bits=blocks.bits,
        block_size=size,
        accuracy_level=_INT8_COMPUTE,
    )


def packed(integers: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """`integers` `(…, count)` in bytes `(…, bytes)`: two to a byte if they have 4 bits, the first in the lower half."""
    if bits == 8:
        return integers
    if integers.shape[-1] % 2:
        integers = np.concatenate([integers, np.zeros_like(integers[..., :1])], axis=-1)
    return np.asarray(integers[..., 0::2] | (integers[..., 1::2] << 4), np.uint8)
