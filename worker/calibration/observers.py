"""What is looked at inside the graph, so that little leaves it: extremes, sums, and a sample of the values."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

#: The input that bounds the samples: with d, between d / 2 and d values of each larger tensor leave the graph.
BOUND = "octet_bound"

_PREFIX = "octet_"
_TO_END = np.iinfo(np.int64).max


class Observers:
    """Nodes that look at `tensors`, all FP32 of the main graph, and at the channels of `channels` (name → axis)."""

    def __init__(self, tensors: Sequence[str], channels: Mapping[str, int]) -> None:
        for name, axis in channels.items():
            if axis not in (1, -1):
                raise ValueError(f"channels of '{name}' on axis {axis}: only 1 and -1 are known")
        self._sampled = frozenset(tensors)
        self._channels = channels
        self.tensors = list(dict.fromkeys([*tensors, *channels]))
        self.outputs: list[str] = []

    def attach(self, model: onnx.ModelProto) -> None:
        """Make what is observed the outputs of `model`; the rest of its nodes is left to the runtime to drop.

        The runtime orders nodes by a depth-first search from the last one backwards. With the observers of the first
        tensors at the end, each is looked at as soon as it is there, and its memory is free again: half the time of
        looking at all of them after the model has run.
        """
        graph = model.graph
        del graph.output[:]
        for name, values in {
            "flat": [-1],
            "start": [0],
            "end": [_TO_END],
            "axis": [0],
            "two": [2],
            "one": [1],
            "images": [0, 0, -1],
            "outer": [0, 2],
        }.items():
            graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), _PREFIX + name))
        graph.input.append(helper.make_tensor_value_info(BOUND, TensorProto.INT64, [1]))
        opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        for index, name in reversed(list(enumerate(self.tensors))):
            for node in self._nodes(index, name, opset):
                graph.node.append(node)
        for output in self.outputs:
            kind = TensorProto.INT64 if output.startswith(f"{_PREFIX}size:") else TensorProto.FLOAT
            graph.output.append(helper.make_tensor_value_info(output, kind, None))

    def read(self, results: Sequence[NDArray[Any]]) -> Iterator[tuple[str, dict[str, NDArray[Any]]]]:
        """Each tensor's name with what was seen of it in a run, in the order of `tensors`."""
        seen: dict[str, dict[str, NDArray[Any]]] = {str(index): {} for index in range(len(self.tensors))}
        for output, result in zip(self.outputs, results, strict=True):
            kind, index = output.removeprefix(_PREFIX).split(":")
            seen[index][kind] = result
        yield from zip(self.tensors, seen.values(), strict=True)

    def _nodes(self, index: int, name: str, opset: int) -> Iterator[onnx.NodeProto]:
        yield _node("Size", [name], self._output("size", index))
        if name in self._channels:
            yield from self._of_channels(index, name, self._channels[name], opset)
        else:
            # Without axes, both forms of the operators (attribute, and input in newer opsets) reduce all of them.
            yield _node("ReduceMin", [name], self._output("low", index), keepdims=0)
            yield _node("ReduceMax", [name], self._output("high", index), keepdims=0)
            # Minimum and maximum pass over NaN: no sum does.
            yield _node("ReduceSum", [name], self._output("sum", index), keepdims=0)
        if name in self._sampled:
            yield from self._sample(index, name)

    def _of_channels(self, index: int, name: str, axis: int, opset: int) -> Iterator[onnx.NodeProto]:
        rows = f"{_PREFIX}rows:{index}"
        if axis == 1:
            yield _node("Reshape", [name, f"{_PREFIX}images"], rows)
        else:
            yield _node("Flatten", [name], rows, axis=-1)
        squares = f"{_PREFIX}squares:{index}"
        yield _node("Mul", [rows, rows], squares)
        for operator, source, kind in (
            ("ReduceMin", rows, "low"),
            ("ReduceMax", rows, "high"),
            ("ReduceSum", rows, "sum"),
            ("ReduceSum", squares, "square_sum"),
        ):
            target = self._output(kind, index)
            if operator == "ReduceSum" or opset >= 18:
                axes = f"{_PREFIX}outer" if axis == 1 else f"{_PREFIX}axis"
                yield _node(operator, [source, axes], target, keepdims=0)
            else:
                yield _node(operator, [source], target, axes=[0, 2] if axis == 1 else [0], keepdims=0)

    def _sample(self, index: int, name: str) -> Iterator[onnx.NodeProto]:
        """Every s-th value, s = 2 · ⌊size / bound⌋ + 1: odd, so that powers of two do not keep meeting a channel."""
        flat, share, even, step = (f"{_PREFIX}{part}:{index}" for part in ("flat", "share", "even", "step"))
        yield _node("Div", [f"{_PREFIX}size_1:{index}", BOUND], share)
        yield _node("Mul", [share, f"{_PREFIX}two"], even)
        yield _node("Add", [even, f"{_PREFIX}one"], step)
        yield _node("Reshape", [name, f"{_PREFIX}flat"], flat)
        yield _node("Reshape", [f"{_PREFIX}size:{index}", f"{_PREFIX}flat"], f"{_PREFIX}size_1:{index}")
        bounds = [f"{_PREFIX}start", f"{_PREFIX}end", f"{_PREFIX}axis", step]
        yield _node("Slice", [flat, *bounds], self._output("sample", index))

    def _output(self, kind: str, index: int) -> str:
        name = f"{_PREFIX}{kind}:{index}"
        self.outputs.append(name)
        return name


def _node(operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
    made: onnx.NodeProto = helper.make_node(operator, inputs, [output], output, **attributes)
    return made
