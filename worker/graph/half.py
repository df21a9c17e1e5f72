"""FP32 weights stored in half precision, each behind a Cast to FP32, which the runtime folds on loading the model."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from worker import onnx_files
from worker.operators import DEFAULT_DOMAINS

# Below this a Cast node takes about as many bytes as it saves.
_SMALLEST_ELEMENTS = 64

_LARGEST_HALF = float(np.finfo(np.float16).max)
_SMALLEST_NORMAL_HALF = float(np.finfo(np.float16).tiny)


@dataclass(frozen=True)
class Halved:
    """How many tensors are `stored` in half precision, and why others, by name, are `kept` as they are."""

    stored: int
    kept: dict[str, str]


def halve(model: onnx.ModelProto, *, only: frozenset[str] | None = None) -> Halved:
    """Rewrite `model` in place.

    `only` names the initializers to be rewritten; None is every FP32 tensor of the model.
    """
    halving = _Halving(model, only)
    halving.run()
    return Halved(halving.stored, halving.kept)


@dataclass
class _Halving:
    """Rewrites a model in place."""

    model: onnx.ModelProto
    only: frozenset[str] | None
    stored: int = 0
    kept: dict[str, str] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)

    def run(self) -> None:
        self._taken = {name for graph in onnx_files.graphs(self.model) for name in _names(graph)}
        for graph in onnx_files.graphs(self.model):
            casts = [self._halve_initializer(tensor) for tensor in graph.initializer]
            self._rewrite_nodes(graph.node, [cast for cast in casts if cast is not None])
        for function in self.model.functions:
            self._rewrite_nodes(function.node, [])
        for tensor in onnx_files.tensors(self.model):
            if onnx_files.is_external(tensor):
                onnx_files.keep_only_reference(tensor)

    def _halve_initializer(self, tensor: TensorProto) -> onnx.NodeProto | None:
        """Store `tensor` in half precision under a new name; returns the Cast that brings back the old one."""
        name = tensor.name
        if not self._halve(tensor, name):
            return None
        tensor.name = self._new_name(name)
        return _cast(tensor.name, name)

    def _rewrite_nodes(self, nodes: Any, casts: list[onnx.NodeProto]) -> None:
        rewritten = list(casts)
        for node in nodes:
            rewritten.append(node)
            if node.op_type == "Constant" and node.domain in DEFAULT_DOMAINS:
                for attribute in node.attribute:
                    if attribute.name == "value" and self._halve(attribute.t, node.output[0]):
                        name = node.output[0]
                        node.output[0] = self._new_name(name)
                        rewritten.append(_cast(node.output[0], name))
        if len(rewritten) > len(nodes):
            copies = [onnx.NodeProto() for _ in rewritten]
            for copy, node in zip(copies, rewritten, strict=True):
                copy.CopyFrom(node)
            del nodes[:]
            nodes.extend(copies)

    def _halve(self, tensor: TensorProto, name: str) -> bool:
        if self.only is not None and name not in self.only:
            return False
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims, dtype=np.int64) < _SMALLEST_ELEMENTS:
            return False
        values = onnx_files.array(tensor)
        reason = _misfit(values)
        if reason is not None:
            self.kept[name] = reason
            return False
        _store(tensor, values.astype(np.float16))
        self.stored += 1
        return True

    def _new_name(self, name: str) -> str:
        half = f"{name}_fp16"
        while half in self._taken:
            half += "_"
        self._taken.add(half)
        return half


def _misfit(values: NDArray[Any]) -> str | None:
    """Why `values` cannot be stored in half precision, or None."""
    low, high = float(values.min()), float(values.max())
    largest = max(abs(low), abs(high))
    if not np.isfinite(low) or not np.isfinite(high):
        return "it holds values that are not finite"
    if largest > _LARGEST_HALF:
        return f"it holds values up to {largest:.4g}, beyond FP16's {_LARGEST_HALF:.0f}"
    if 0 < largest < _SMALLEST_NORMAL_HALF:
        return f"its values, at most {largest:.4g}, are too small for FP16"
    return None


def _store(tensor: TensorProto, values: NDArray[Any]) -> None:
    """Put `values` in place of what `tensor` holds or refers to."""
    stored = numpy_helper.from_array(np.ascontiguousarray(values), tensor.name)
    tensor.CopyFrom(stored)


def _cast(source: str, target: str) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], f"{source}_to_fp32", to=TensorProto.FLOAT)


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    yield from (tensor.name for tensor in graph.initializer)
    yield from (argument.name for argument in graph.input)
    for node in graph.node:
        yield from node.output
