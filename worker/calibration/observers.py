"""What is looked at inside the graph, so that little leaves it: extremes, means, and a sample of the values."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from worker import onnx_files
from worker.operators import NEVER_NEGATIVE

#: The input that bounds the samples: with d, between d / 2 and d values of each larger tensor leave the graph.
BOUND = "octet_bound"

#: Of what is multiplied to find means of squares, every so many entries of the first axis are taken.
MEANS_STRIDE = 4

_PREFIX = "octet_"
_CONSTANTS = {
    "flat": [-1],
    "images": [0, 0, -1],
    "entries": [0, -1],
    "first": [0],
    "second": [1],
    "third": [2],
    "outer": [0, 2],
    "stride": [MEANS_STRIDE],
    "one": [1],
    "two": [2],
    "end": [np.iinfo(np.int64).max],
}


class Observers:
    """Nodes that look at `tensors`, all FP32 of the main graph, and at the channels of `channels` (name → axis).

    Of each comes what `read` tells: its size; the highest values, and unless no value can be negative the lowest, of
    parts of it, the last axis being that of channels where there are any; a sample; and of channels the means of
    values and of squares, from part of the batch, with the size of that part.
    """

    def __init__(self, tensors: Sequence[str], channels: Mapping[str, int]) -> None:
        for name, axis in channels.items():
            if axis not in (1, -1):
                raise ValueError(f"channels of '{name}' on axis {axis}: only 1 and -1 are known")
        self._sampled = frozenset(tensors)
        self._channels = channels
        self.tensors = list(dict.fromkeys([*tensors, *channels]))
        self._opset = 0
        self._answers: list[str] = []
        #: The names of what is observed, for a run to fetch.
        self.outputs: list[str] = []

    def attach(self, model: onnx.ModelProto) -> None:
        """Make what is observed the outputs of `model`; the rest of its nodes is left to the runtime to drop.

        The runtime orders nodes by a depth-first search from the last one backwards. With the observers of the first
        tensors at the end, each is looked at as soon as it is there, and its memory is free again: that is up to
        twice as fast as looking at all of them after the model has run.
        """
        graph = model.graph
        self._opset = onnx_files.opset_version(model)
        ranks = _ranks(graph)
        positive = _never_negative(graph)
        self._answers = [o.name for o in graph.output if o.type.tensor_type.elem_type == TensorProto.FLOAT]
        del graph.output[:]
        for index, name in enumerate(self._answers):
            graph.node.append(_node("ReduceSum", [name], self._output("answer", index), keepdims=0))
        for name, values in _CONSTANTS.items():
            graph.initializer.append(onnx.numpy_helper.from_array(np.array(values, np.int64), _PREFIX + name))
        graph.input.append(helper.make_tensor_value_info(BOUND, TensorProto.INT64, [1]))
        for index, name in reversed(list(enumerate(self.tensors))):
            for node in self._nodes(index, name, ranks.get(name), name in positive):
                graph.node.append(node)
        for output in self.outputs:
            kind = TensorProto.INT64 if "size:" in output else TensorProto.FLOAT
            graph.output.append(helper.make_tensor_value_info(output, kind, None))

    def answers(self, results: Sequence[NDArray[Any]]) -> Iterator[tuple[str, float]]:
        """The sum of each answer of the model in a run: NaN anywhere before has as a rule come this far."""
        for name, total in zip(self._answers, results, strict=False):
            yield name, float(total)

    def read(self, results: Sequence[NDArray[Any]]) -> Iterator[tuple[str, dict[str, NDArray[Any]]]]:
        """Each tensor's name with what was seen of it in a run, in the order of `tensors`."""
        seen: dict[str, dict[str, NDArray[Any]]] = {str(index): {} for index in range(len(self.tensors))}
        for output, result in list(zip(self.outputs, results, strict=True))[len(self._answers) :]:
            kind, index = output.removeprefix(_PREFIX).split(":")
            seen[index][kind] = result
        yield from zip(self.tensors, seen.values(), strict=True)

    def _nodes(self, index: int, name: str, rank: int | None, is_positive: bool) -> Iterator[onnx.NodeProto]:
        yield _node("Size", [name], self._output("size", index))
        axis = self._channels.get(name)
        parts = f"{_PREFIX}parts:{index}"
        if axis == 1:
            # (samples, channels): the highest of each image are the tail of the distribution, which samples miss.
            yield _node("Reshape", [name, _PREFIX + "images"], parts)
            reduced, axes = parts, [2]
        elif axis == -1:
            yield _node("Flatten", [name], parts, axis=-1)
            reduced, axes = parts, [0]
        elif rank:
            yield _node("Reshape", [name, _PREFIX + "entries"], parts)
            reduced, axes = parts, [1]
        else:
            reduced, axes = name, []
        yield self._reduce("ReduceMax", reduced, self._output("high", index), axes)
        if not is_positive:
            yield self._reduce("ReduceMin", reduced, self._output("low", index), axes)
        if name in self._sampled:
            yield from self._sample(index, name)
        if axis is not None:
            yield from self._means(index, name, axis)

    def _sample(self, index: int, name: str) -> Iterator[onnx.NodeProto]:
        """Every s-th value, s = 2 · ⌊size / bound⌋ + 1: odd, so that powers of two do not keep meeting a channel."""
        size, share, even, step, flat = (
            f"{_PREFIX}{part}:{index}" for part in ("whole", "share", "even", "step", "flat")
        )
        yield _node("Reshape", [f"{_PREFIX}size:{index}", _PREFIX + "flat"], size)
        yield _node("Div", [size, BOUND], share)
        yield _node("Mul", [share, _PREFIX + "two"], even)
        yield _node("Add", [even, _PREFIX + "one"], step)
        yield _node("Reshape", [name, _PREFIX + "flat"], flat)
        yield _node("Slice", [flat, *_slice_bounds(), step], self._output("sample", index))

    def _means(self, index: int, name: str, axis: int) -> Iterator[onnx.NodeProto]:
        part, rows, squares = (f"{_PREFIX}{part}:{index}" for part in ("part", "rows", "squares"))
        yield _node("Slice", [name, *_slice_bounds(), _PREFIX + "stride"], part)
        yield _node("Size", [part], self._output("part_size", index))
        if axis == 1:
            yield _node("Reshape", [part, _PREFIX + "images"], rows)
        else:
            yield _node("Flatten", [part], rows, axis=-1)
        axes = [0, 2] if axis == 1 else [0]
        yield self._reduce("ReduceMean", rows, self._output("mean", index), axes)
        yield _node("Mul", [rows, rows], squares)
        yield self._reduce("ReduceMean", squares, self._output("mean_square", index), axes)

    def _reduce(self, operator: str, source: str, target: str, axes: list[int]) -> onnx.NodeProto:
        """From opset 18 on, axes are an input; without any, all are reduced."""
        if not axes:
            return _node(operator, [source], target, keepdims=0)
        if self._opset >= 18:
            constant = {(0,): "first", (1,): "second", (2,): "third", (0, 2): "outer"}[tuple(axes)]
            return _node(operator, [source, _PREFIX + constant], target, keepdims=0)
        return _node(operator, [source], target, axes=axes, keepdims=0)

    def _output(self, kind: str, index: int) -> str:
        name = f"{_PREFIX}{kind}:{index}"
        self.outputs.append(name)
        return name


def _slice_bounds() -> list[str]:
    """Start, end and axis of a slice along the whole first axis."""
    return [_PREFIX + "first", _PREFIX + "end", _PREFIX + "first"]


def _node(operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
    made: onnx.NodeProto = helper.make_node(operator, inputs, [output], output, **attributes)
    return made


def _ranks(graph: onnx.GraphProto) -> dict[str, int]:
    """Of the tensors whose shape is said."""
    return {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }


def _never_negative(graph: onnx.GraphProto) -> set[str]:
    floors = {
        tensor.name: onnx_files.array(tensor)
        for tensor in graph.initializer
        if not onnx_files.is_external(tensor) and tensor.data_type == TensorProto.FLOAT and not tensor.dims
    }
    positive = set()
    for node in graph.node:
        floor = floors.get(node.input[1]) if node.op_type == "Clip" and len(node.input) > 1 else None
        if node.op_type in NEVER_NEGATIVE or (floor is not None and float(floor) >= 0.0):
            positive.add(node.output[0])
    return positive
