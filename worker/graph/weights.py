"""The weights of a graph's integer nodes: symmetric S8, one scale for each output channel."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from app.contracts.operators import COMPUTING
from worker.graph.integer_types import IntegerTypes
from worker.onnx_files import array

# Tried of the largest weight's scale: steps from it, then about the best; below a half clipping costs more than
# finer rounding gains.
_COARSE = np.linspace(0.0, -0.5, 11)
_FINE = np.array([-0.03, -0.02, -0.01, 0.01, 0.02, 0.03])
_SMALLEST_SHARE = 0.5

Scales = NDArray[np.float32]

#: Gives the values of a constant.
Reader = Callable[[onnx.TensorProto], NDArray[Any]]


@dataclass(frozen=True)
class Weight:
    """The constant weight of a node that computes, and how it is to be rounded.

    `axis` is where the output channels of `tensor` lie. Without `per_channel` there is one scale.
    """

    node: onnx.NodeProto
    tensor: onnx.TensorProto
    axis: int
    per_channel: bool

    @property
    def name(self) -> str:
        return str(self.tensor.name)

    @property
    def values(self) -> NDArray[np.float32]:
        """`(channels, columns)`, the columns being the inputs of one output channel, each with its kernel.

        Read anew each time: the weights of a large model are not all in memory.
        """
        values = np.moveaxis(array(self.tensor), self.axis, 0)
        return values.reshape(len(values), -1)

    def plain(self, largest: int) -> Scales:
        """Scales, `(channels,)` or `(1,)`, at which nothing is clipped."""
        return plain_scales(self._rows(self.values), largest)

    def searched(self, largest: int, mean_square: NDArray[np.float64] | None) -> Scales:
        """Scales of least squared output error; `mean_square` `(all inputs,)` is that of the node's input."""
        importance = None if mean_square is None else self._rows(self._by_column(mean_square))
        return searched_scales(self._rows(self.values), largest, importance)

    def rounded(self, scales: Scales, largest: int) -> NDArray[np.float32]:
        """What the integers stand for, `(channels, columns)`."""
        return rounded(self._rows(self.values), scales, largest).reshape(self.values.shape)

    def _rows(self, values: NDArray[Any]) -> NDArray[Any]:
        return values if self.per_channel else values.reshape(1, -1)

    def _by_column(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """A figure of each input of the node → of each weight; groups take inputs and outputs in turn."""
        shape = list(self.tensor.dims)
        channels = shape.pop(self.axis)
        count, *kernel = shape
        groups = len(inputs) // count
        rows = np.repeat(inputs.reshape(groups, count), channels // groups, axis=0)
        return np.repeat(rows, math.prod(kernel), axis=1)


def output_axis(node: onnx.NodeProto) -> int:
    """Where the output channels lie in the weight of a Conv, or of a MatMul or Gemm in normal form."""
    return 0 if node.op_type == "Conv" else 1


def weights(model: onnx.ModelProto, nodes: frozenset[str], *, per_channel: bool) -> Iterator[Weight]:
    """The weight of each Conv, MatMul and Gemm among `nodes`, each initializer once."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    seen: set[str] = set()
    for node in model.graph.node:
        if node.name not in nodes or node.op_type not in COMPUTING or node.input[1] in seen:
            continue
        seen.add(node.input[1])
        yield Weight(node, constants[node.input[1]], output_axis(node), per_channel)


def largest_integer(types: IntegerTypes) -> int:
    """Integers go from minus this to this: the ends of the range of onnxruntime's symmetric S8."""
    return 64 if types.reduce_range else 127


def plain_scales(values: NDArray[np.float32], largest: int) -> Scales:
    """Scales `(channels,)` at which no weight is clipped. A channel of zeros has the smallest of the others'."""
    extremes = np.abs(values).max(axis=1, initial=0.0)
    positive = extremes[extremes > 0]
    filled = np.where(extremes > 0, extremes, positive.min() if positive.size else 1.0)
    scales: Scales = np.maximum(filled / largest, np.finfo(np.float32).tiny).astype(np.float32)
    return scales


def searched_scales(values: NDArray[np.float32], largest: int, importance: NDArray[np.float64] | None = None) -> Scales:
    """Scales `(channels,)` of least squared error, weighed by `importance`, which broadcasts to `values`.

    With the mean squares of the inputs as `importance`, what is made least is the squared error of the node's output,
    as far as inputs are uncorrelated. A coarse search, then a fine one about its best.
    """
    full = plain_scales(values, largest)
    weigh = None if importance is None else np.broadcast_to(importance.astype(np.float32), values.shape)
    best = np.ones(len(values), np.float32)
    least = np.full(len(values), np.inf)
    for steps in (_COARSE, _FINE):
        center = best
        for step in steps:
            share = np.clip(center + step, _SMALLEST_SHARE, 1.0).astype(np.float32)
            errors = _errors(values, full * share, largest, weigh)
            better = errors < least
            best, least = np.where(better, share, best), np.where(better, errors, least)
    return full * best


def _errors(
    values: NDArray[np.float32], scales: Scales, largest: int, importance: NDArray[np.float32] | None
) -> NDArray[np.float64]:
    errors = rounded(values, scales, largest)
    errors -= values
    if importance is None:
        return np.asarray(np.einsum("oi,oi->o", errors, errors), np.float64)
    return np.asarray(np.einsum("oi,oi,oi->o", errors, errors, importance), np.float64)


def rounded(values: NDArray[np.float32], scales: Scales, largest: int) -> NDArray[np.float32]:
    """What the integers of `values` `(channels, inputs)` stand for."""
    result = values / scales[:, None]
    np.rint(result, out=result)
    np.clip(result, -largest, largest, out=result)
    result *= scales[:, None]
    return result


def clipped(found: Iterable[Weight], scales: Mapping[str, Scales], largest: int) -> Reader:
    """A reader that brings weights into the reach of their scales: a writer that is given a scale uses all 8 bits."""
    reaches = {}
    for weight in found:
        shape = [1] * len(weight.tensor.dims)
        shape[weight.axis] = -1
        reaches[weight.name] = (scales[weight.name] * largest).reshape(shape)

    def read(tensor: onnx.TensorProto) -> NDArray[Any]:
        values, reach = array(tensor), reaches.get(tensor.name)
        return values if reach is None else np.clip(values, -reach, reach)

    return read


def overrides(found: Iterable[Weight], scales: Mapping[str, Scales]) -> dict[str, list[dict[str, Any]]]:
    """`scales` as onnxruntime's `TensorQuantOverrides`."""
    return {
        weight.name: [
            {"scale": scale, "zero_point": 0, **({"axis": weight.axis} if weight.per_channel else {})}
            for scale in scales[weight.name]
        ]
        for weight in found
    }
