"""SmoothQuant: outliers in some channels of a MatMul's input moved over to its weight.

x·W = (x / s)·(s·W), with s = largest|x|^alpha / largest|W|^(1 - alpha) for each input channel (Xiao et al.,
SmoothQuant, 2023, equation 4). The division goes into a LayerNormalization whose result these MatMuls alone read; else
it is a multiplication of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from app.contracts.operators import MATRIX_PRODUCTS
from worker.graph import order
from worker.graph.constants import Constants
from worker.graph.readers import Readers

_SUFFIX = "_smoothed"


@dataclass(frozen=True)
class Group:
    """The MatMuls and Gemms that read `tensor`, their weights their own. `norm` is where the division can hide."""

    tensor: str
    products: tuple[onnx.NodeProto, ...]
    norm: onnx.NodeProto | None


def groups(model: onnx.ModelProto, nodes: frozenset[str]) -> list[Group]:
    """One group for each tensor that products among `nodes` read."""
    readers, constants = Readers(model), Constants(model.graph)
    producers = {name: node for node in model.graph.node for name in node.output}
    found = []
    for tensor in dict.fromkeys(node.input[0] for node in model.graph.node if node.input):
        products = tuple(
            node
            for node in readers.nodes_of(tensor)
            if node.name in nodes
            and node.op_type in MATRIX_PRODUCTS
            and node.input[0] == tensor
            and readers.sole(node.input[1]) is not None
        )
        if products:
            alone = len(products) == len(readers.all_of(tensor))
            norm = producers.get(tensor) if alone else None
            found.append(Group(tensor, products, norm if _can_hide(norm, readers, constants) else None))
    return found


def _can_hide(norm: onnx.NodeProto | None, readers: Readers, constants: Constants) -> bool:
    return (
        norm is not None
        and norm.op_type == "LayerNormalization"
        and all(
            constants.is_float(name) and constants[name].ndim == 1 and readers.sole(name) is not None
            for name in norm.input[1:]
            if name
        )
    )


def smooth(
    model: onnx.ModelProto,
    found: Sequence[Group],
    largest: Mapping[str, NDArray[np.float64]],
    alphas: Mapping[str, float],
) -> dict[str, str]:
    """Rewrite `model`, of which `found` are groups; returns the tensors to calibrate anew, and which each was before.

    `largest` are the largest absolute values `(channels,)` of the groups' tensors; those without one of `alphas` stay
    as they are.
    """
    constants = Constants(model.graph)
    changed: dict[str, str] = {}
    for group in found:
        if group.tensor not in alphas:
            continue
        reach = input_reach([constants[node.input[1]] for node in group.products])
        divisor = divisors(largest[group.tensor], reach, alphas[group.tensor])
        for node in group.products:
            constants.replace(node.input[1], constants[node.input[1]] * divisor[:, None])
        if group.norm is not None:
            for name in group.norm.input[1:]:
                if name:
                    constants.replace(name, constants[name] / divisor)
            changed[group.tensor] = group.tensor
        else:
            changed[_divide(model.graph, constants, group, divisor)] = group.tensor
    order.sort(model.graph)
    return changed


def input_reach(weights: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The largest absolute value by input channel of matrices `(channels, outputs)`."""
    reach: NDArray[np.float32] = np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0)
    return reach


def divisors(largest: NDArray[np.float64], reach: NDArray[np.float32], alpha: float) -> NDArray[np.float32]:
    """What each input channel is divided by, 1 in the geometric mean; all arrays are `(channels,)`."""
    # Channels that are silent, or that no weight reads, are left as they are.
    active = (largest > 0.0) & (reach > 0.0)
    raw = np.ones(len(largest))
    raw[active] = largest[active] ** alpha / reach[active].astype(np.float64) ** (1.0 - alpha)
    middle = float(np.exp(np.log(raw[active]).mean())) if active.any() else 1.0
    raw[active] /= middle
    return np.clip(raw, 1e-4, 1e4).astype(np.float32)


def _divide(graph: onnx.GraphProto, constants: Constants, group: Group, divisor: NDArray[np.float32]) -> str:
    name = group.tensor + _SUFFIX
    factor = constants.add(f"{name}_factor", (1.0 / divisor).astype(np.float32))
    graph.node.append(onnx.helper.make_node("Mul", [group.tensor, factor], [name], name))
    for node in group.products:
        node.input[0] = name
    graph.value_info.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return name
