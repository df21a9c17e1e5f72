"""Embedding tables in 8 bits, with a scale for each row and one for each column.

One scale for a whole table, which is all that the writers know, costs a transformer more than the rounding of all its
matrix products: a few columns are many times larger than the rest, and rare rows much smaller. Only the rows that are
looked up are brought back to FP32.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from worker.graph import order
from worker.graph.constants import Constants

_LARGEST = 127
# What is smaller has no scale among normal numbers, and is zero to any sum.
_SMALLEST = 1e-30
_CHUNK_ROWS = 8192


def quantize(model: onnx.ModelProto, nodes: frozenset[str]) -> None:
    """Rewrite the Gathers named `nodes`, each the only reader of a constant FP32 table `(rows, columns)`."""
    graph, constants = model.graph, Constants(model.graph)
    replaced = [node for node in graph.node if node.name in nodes]
    for node in replaced:
        graph.node.extend(_looked_up(node, constants))
        graph.node.remove(node)
    tables = {node.input[0] for node in replaced}
    for position in reversed(range(len(graph.initializer))):
        if graph.initializer[position].name in tables:
            del graph.initializer[position]
    order.sort(graph)


def fake_quantize(model: onnx.ModelProto, nodes: frozenset[str]) -> None:
    """Give the tables of the Gathers named `nodes` the values that their integers would stand for."""
    constants = Constants(model.graph)
    for name in {node.input[0] for node in model.graph.node if node.name in nodes}:
        integers, rows, columns = rounded(constants[name])
        constants.replace(name, integers * rows[:, None] * columns)


def _looked_up(node: onnx.NodeProto, constants: Constants) -> list[onnx.NodeProto]:
    table, indices = node.input
    integers, rows, columns = rounded(constants[table])
    name = node.output[0]
    stored = constants.add(f"{table}_integers", integers)
    row_scales = constants.add(f"{table}_row_scale", rows[:, None])
    column_scales = constants.add(f"{table}_column_scale", columns)
    zeros = constants.add(f"{table}_zero_point", np.zeros(len(columns), np.int8))
    return [
        helper.make_node("Gather", [stored, indices], [f"{name}_integers"], f"{node.name}_rows", axis=0),
        helper.make_node(
            "DequantizeLinear", [f"{name}_integers", column_scales, zeros], [f"{name}_unscaled"],
            f"{node.name}_columns", axis=-1,
        ),
        helper.make_node("Gather", [row_scales, indices], [f"{name}_row_scale"], f"{node.name}_row_scale", axis=0),
        helper.make_node("Mul", [f"{name}_unscaled", f"{name}_row_scale"], [name], f"{node.name}_scaled"),
    ]  # fmt: skip


def rounded(table: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.float32]]:
    """`table` `(rows, columns)` as integers of the same shape, scales `(rows,)` and scales `(columns,)`.

    Their product is the table again: columns are brought to the same power, then rows to the reach of S8.
    """
    power = np.sqrt(np.mean(np.square(table, dtype=np.float64), axis=0))
    columns = np.where(power > 0.0, power, 1.0).astype(np.float32)
    integers = np.empty(table.shape, np.int8)
    rows = np.empty(len(table), np.float32)
    # A vocabulary's table is the largest tensor there is: not many times over in memory.
    for start in range(0, len(table), _CHUNK_ROWS):
        part = table[start : start + _CHUNK_ROWS] / columns
        largest = np.abs(part).max(axis=1, initial=0.0)
        scales = np.where(largest > _SMALLEST, largest / _LARGEST, 1.0).astype(np.float32)
        rows[start : start + len(part)] = scales
        integers[start : start + len(part)] = np.rint(part / scales[:, None])
    return integers, rows, columns
