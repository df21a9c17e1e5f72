"""Cross-layer equalization: channels of one tensor brought to like ranges, the weights on both sides taking it up.

A convolution's output channel times r, and the weights that read it divided by r, compute the same as long as what
lies between is positively homogeneous, as Relu is (Nagel et al., Data-Free Quantization Through Weight Equalization
and Bias Correction, 2019, section 4.1). With one scale for each channel of a weight, what gains is the activation
between them, whose one scale has to serve all of its channels.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from worker.graph.constants import Constants
from worker.graph.readers import Readers
from worker.operators import CLIPPING

# A channel that hardly spoke in calibration may speak up later: it must not be cut off then.
_LARGEST_FACTOR = 16.0

Factors = NDArray[np.float32]


@dataclass(frozen=True)
class Chain:
    """Convolution → Relu, Clip or nothing → `tensor` → convolution, and nobody else reads anything between.

    `ceiling` is the upper bound of a Clip, None where there is none.
    """

    first: onnx.NodeProto
    tensor: str
    second: onnx.NodeProto
    ceiling: float | None


def chains(model: onnx.ModelProto, nodes: frozenset[str]) -> list[Chain]:
    """The chains between Convs among `nodes` whose weights, and the first one's bias, no other node uses."""
    readers, constants = Readers(model), Constants(model.graph)
    found = []
    for first in model.graph.node:
        if first.op_type != "Conv" or first.name not in nodes or not _owns_constants(first, readers, constants):
            continue
        tensor, ceiling = first.output[0], None
        between = readers.sole(tensor)
        if between is not None and between.op_type in CLIPPING:
            if between.op_type == "Clip":
                bounds = _bounds(between, constants)
                if bounds is None:
                    continue
                ceiling = bounds
            tensor = between.output[0]
        second = readers.sole(tensor)
        if second is None or second.op_type != "Conv" or second.name not in nodes or second.input[0] != tensor:
            continue
        if _owns_constants(second, readers, constants):
            found.append(Chain(first, tensor, second, ceiling))
    return found


def _owns_constants(node: onnx.NodeProto, readers: Readers, constants: Constants) -> bool:
    return all(constants.is_float(name) and readers.sole(name) is not None for name in node.input[1:] if name)


def _bounds(clip: onnx.NodeProto, constants: Constants) -> float | None:
    """The upper bound of a Clip from 0 to a constant; None for any other."""
    names = [*clip.input[1:], "", ""][:2]
    if not all(name in constants for name in names):
        return None
    low, high = (float(constants[name].item()) for name in names)
    return high if low == 0.0 and high > 0.0 else None


def equalize(
    model: onnx.ModelProto, found: list[Chain], largest: Mapping[str, NDArray[np.float64]]
) -> dict[str, Factors]:
    """Rewrite `model`, of which `found` are chains; returns the factors `(channels,)` of each tensor that changed.

    `largest` are the largest absolute values `(channels,)` of the chains' tensors before. Behind a Clip a channel is
    brought up to the bound at most, so that the bound cuts off only what calibration has not seen.
    """
    constants = Constants(model.graph)
    changed: dict[str, Factors] = {}
    for chain in found:
        if chain.tensor not in largest:
            continue
        weight = constants[chain.second.input[1]]
        factors = _factors(largest[chain.tensor], weight, chain)
        if np.allclose(factors, 1.0):
            continue
        for name in chain.first.input[1:]:
            if name:
                values = constants[name]
                constants.replace(name, values * factors.reshape(-1, *[1] * (values.ndim - 1)))
        constants.replace(chain.second.input[1], weight / _by_input(factors, weight.shape))
        changed[chain.tensor] = factors
    return changed


def _factors(largest: NDArray[np.float64], weight: NDArray[np.float32], chain: Chain) -> Factors:
    ceiling = chain.ceiling if chain.ceiling is not None else float(largest.max(initial=0.0))
    if ceiling <= 0.0:
        return np.ones(len(largest), np.float32)
    speaks = largest > 0.0
    room = np.where(speaks, np.minimum(ceiling / np.where(speaks, largest, 1.0), _LARGEST_FACTOR), 1.0)
    if weight.shape[1] == 1:
        # Each channel has weights, and a scale of them, of its own: they bear any factor.
        return np.maximum(room, 1.0).astype(np.float32)
    # What the activation gains the weights' common scale loses: meet in the middle.
    reach = np.abs(weight).reshape(len(weight), weight.shape[1], -1).max(axis=(0, 2))
    reach = np.tile(reach, len(largest) // len(reach))
    meant = np.sqrt(room * reach / max(float(reach.max()), np.finfo(np.float32).tiny))
    return np.asarray(np.clip(meant, 1.0, np.maximum(room, 1.0)), np.float32)


def _by_input(factors: Factors, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """`factors` of the input channels, laid out to divide a Conv's weight `(out, in / groups, …)`."""
    groups = len(factors) // shape[1]
    rows = np.repeat(factors.reshape(groups, shape[1]), shape[0] // groups, axis=0)
    laid_out: NDArray[np.float32] = rows.reshape(*shape[:2], *[1] * (len(shape) - 2))
    return laid_out
