"""MatMulNBits, onnxruntime's product with a weight in a few bits: what a node of it holds, and how it is stored."""

from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from worker.graph.blockwise import Blocks, Floats
from worker.graph.constants import Constants

_DOMAIN = "com.microsoft"

# Of the kernel: multiply in INT8, rows of the input rounded block by block. Several times faster than FP32, and a
# row's answer still depends on nothing but the row.
_INT8_COMPUTE = 4


#: The integers of a weight, by its name.
Rounding = Callable[[str, Floats], Blocks]


def replace_products(model: onnx.ModelProto, weights: Set[str], rounding: Rounding) -> None:
    """Rewrite the MatMuls with these constant `weights`, and drop weights that nothing reads then.

    Each weight is rounded once, and one after another: not many are in memory.
    """
    graph, constants = model.graph, Constants(model.graph)
    stored: dict[str, _Stored] = {}
    for node in graph.node:
        name = node.input[1] if node.op_type == "MatMul" else ""
        if name in weights:
            if name not in stored:
                stored[name] = _store(name, rounding(name, constants[name]), constants)
            node.CopyFrom(_product(node, stored[name]))
    read = {name for node in graph.node for name in node.input}
    for position in reversed(range(len(graph.initializer))):
        name = graph.initializer[position].name
        if name in weights and name not in read:
            del graph.initializer[position]
    if all(entry.domain != _DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))


@dataclass(frozen=True)
class _Stored:
    """The names of the constants that hold a weight, and the attributes that tell their form."""

    inputs: tuple[str, ...]
    attributes: dict[str, Any]


def _store(name: str, blocks: Blocks, constants: Constants) -> _Stored:
    values: dict[str, NDArray[Any]] = {
        f"{name}_blocks": packed(blocks.integers, blocks.bits),
        f"{name}_scales": blocks.scales.reshape(-1),
        f"{name}_zero_points": packed(blocks.zero_points, blocks.bits).reshape(-1),
    }
    inputs = tuple(key if key in constants else constants.add(key, array) for key, array in values.items())
    outputs, _, size = blocks.integers.shape
    return _Stored(inputs, {"K": blocks.inputs, "N": outputs, "bits": blocks.bits, "block_size": size})


def _product(node: onnx.NodeProto, weight: _Stored) -> onnx.NodeProto:
    return helper.make_node(
        "MatMulNBits",
        [node.input[0], *weight.inputs],
        node.output,
        node.name,
        domain=_DOMAIN,
        **weight.attributes,
        accuracy_level=_INT8_COMPUTE,
    )


def packed(integers: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """`integers` `(…, count)` in bytes `(…, bytes)`: two to a byte if they have 4 bits, the first in the lower half."""
    if bits == 8:
        return integers
    if integers.shape[-1] % 2:
        integers = np.concatenate([integers, np.zeros_like(integers[..., :1])], axis=-1)
    return np.asarray(integers[..., 0::2] | (integers[..., 1::2] << 4), np.uint8)
