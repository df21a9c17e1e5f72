"""What an artifact would lose on an x86 CPU without VNNI, predicted from what it computes here.

Such a CPU multiplies U8 by S8 in pairs and adds the two products in 16 bits, which saturate (VPMADDUBSW; onnxruntime's
documentation on quantization, "reduce_range"). Here every such pair of a few samples is looked at, its error summed
into the node's output, and the artifact run once more with these errors. What errors do to one another further on is
left out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from app.contracts.operators import COMPUTING
from app.engines import Engine
from app.engines.classes import find_class_output
from worker import inner_tensors, onnx_files
from worker.evaluation.fidelity import SignalAndNoise, finite_or_none
from worker.evaluation.share import Share
from worker.samples import Feeder, Indices

_LOWEST, _HIGHEST = -(2**15), 2**15 - 1
_LARGEST_ACTIVATION = 255
_SIGN_OFFSET = 128

_BATCH = 8

Integers = NDArray[np.int32]
Weights = NDArray[np.int8]
# Gives one column of a matrix product's left side, `(rows,)`.
Column = Callable[[int], Integers]


@dataclass(frozen=True)
class Saturation:
    """The prediction. `share` is that of output elements that go wrong, in the node where it is largest.

    `agreement` (0..1) and `sqnr_db` compare the artifact with itself as it would answer there; None is what these
    outputs cannot tell, or no difference.
    """

    samples: int
    nodes: int
    worst: str | None
    share: float
    agreement: float | None
    sqnr_db: float | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def note(self) -> str | None:
        """The prediction in words; None where nothing saturates."""
        if self.worst is None:
            return None
        lost = f"; {1 - self.agreement:.1%} of the top-1 answers would change" if self.agreement is not None else ""
        return (
            f"on an x86 CPU without VNNI, sums of {self.nodes} node(s) would saturate at 16 bits, in '{self.worst}'"
            f" {self.share:.2%} of them{lost}: make the variant anew on such a CPU, which takes 7-bit weights"
        )


def predict_saturation(
    artifact: Path, arrays: Mapping[str, NDArray[Any]], indices: Indices, *, engine: Engine, threads: int
) -> Saturation | None:
    """On the samples of `arrays` at `indices`; None for an artifact without integer sums of products.

    None as well for an engine whose kernels do not saturate so.
    """
    if not engine.saturates_pairs:
        return None
    model = onnx_files.load(artifact, weights=False)
    nodes = _integer_nodes(model)
    if not nodes:
        return None
    risky = [node for node in nodes if len(node.pairs)]
    tally = _Tally(risky)
    if risky:
        _run(artifact, model, risky, arrays, indices, engine, threads, tally)
    return tally.result(len(indices))


def _run(
    artifact: Path,
    model: onnx.ModelProto,
    nodes: Sequence["_IntegerNode"],
    arrays: Mapping[str, NDArray[Any]],
    indices: Indices,
    engine: Engine,
    threads: int,
    tally: "_Tally",
) -> None:
    outputs = len(model.graph.output)
    here, there = (
        inner_tensors.load_edited(edit(model, nodes), artifact.parent, engine=engine, threads=threads)
        for edit in (_showing, _taking_errors)
    )
    for batch in Feeder(here.inputs, arrays).batches(indices, _BATCH):
        answers = here.run(batch.feeds)
        integers = answers[outputs:]
        errors = {
            node.error: node.errors(values.astype(np.int32)) for node, values in zip(nodes, integers, strict=True)
        }
        tally.add(errors, answers[:outputs], there.run({**batch.feeds, **errors}), len(batch))


def _showing(model: onnx.ModelProto, nodes: Sequence["_IntegerNode"]) -> onnx.ModelProto:
    """`model` with the integers that `nodes` read as further outputs."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    inner_tensors.expose(shown.graph, [*(output.name for output in model.graph.output), *(n.source for n in nodes)])
    return shown


def _taking_errors(model: onnx.ModelProto, nodes: Sequence["_IntegerNode"]) -> onnx.ModelProto:
    """`model` with an input for each of `nodes`, which is added to its output."""
    taking = onnx.ModelProto()
    taking.CopyFrom(model)
    graph = taking.graph
    by_name = {node.name: node for node in graph.node}
    for node in nodes:
        changed = by_name[node.name]
        target, exact = changed.output[0], f"{node.error}:exact"
        changed.output[0] = exact
        graph.node.append(helper.make_node("Add", [exact, node.error], [target], f"{node.error}:add"))
        element = helper.np_dtype_to_tensor_dtype(node.dtype)
        graph.input.append(helper.make_tensor_value_info(node.error, element, None))
    return taking


class _Tally:
    def __init__(self, nodes: Sequence["_IntegerNode"]) -> None:
        self._wrong = {node.error: 0 for node in nodes}
        self._all = {node.error: 0 for node in nodes}
        self._names = {node.error: node.name for node in nodes}
        self._agreement = Share()
        self._noise = SignalAndNoise()

    def add(
        self,
        errors: Mapping[str, NDArray[Any]],
        here: Sequence[NDArray[Any]],
        there: Sequence[NDArray[Any]],
        rows: int,
    ) -> None:
        for name, values in errors.items():
            self._wrong[name] += int(np.count_nonzero(values))
            self._all[name] += values.size
        classes = find_class_output(here, len(here[0]) if here[0].ndim else 0)
        if classes is not None:
            self._agreement.add(classes.read(here)[:rows], classes.read(there)[:rows])
        for left, right in zip(here, there, strict=True):
            if left.dtype.kind == "f" and np.isfinite(left).all() and np.isfinite(right).all():
                self._noise.add(left, right)

    def result(self, samples: int) -> Saturation:
        shares = {name: self._wrong[name] / max(1, self._all[name]) for name in self._wrong if self._wrong[name]}
        worst = max(shares, key=lambda name: shares[name], default=None)
        return Saturation(
            samples=samples,
            nodes=len(shares),
            worst=self._names[worst] if worst is not None else None,
            share=shares[worst] if worst is not None else 0.0,
            agreement=self._agreement.value if worst is not None else None,
            sqnr_db=finite_or_none(self._noise.sqnr_db) if worst is not None else None,
        )


@dataclass(frozen=True)
class _IntegerNode:
    """A sum of products of integers, `scale` `(outputs,)` or a scalar bringing it to the units of its output.

    `source` is the tensor of integers that it reads; plus `offset` they are unsigned. `weight` is `(inputs, outputs)`,
    the inputs in the order in which they are summed up. `pairs` `(count, 2)` are the first of two inputs and the output
    that together could saturate.
    """

    name: str
    source: str
    offset: int
    weight: Weights
    pairs: NDArray[np.int64]
    scale: NDArray[np.float64]
    dtype: np.dtype[Any]
    window: "_Window | None" = None

    @property
    def error(self) -> str:
        return f"octet_saturation:{self.name}"

    def errors(self, values: Integers) -> NDArray[Any]:
        """What saturation adds to the output, for the integers `values` that the node reads."""
        if self.window is None:
            rows = values.reshape(-1, values.shape[-1])
            return self._summed(lambda k: rows[:, k], len(rows)).reshape(*values.shape[:-1], -1)
        column, (batch, height, width) = self.window.columns(values)
        summed = self._summed(column, batch * height * width).reshape(batch, height, width, -1)
        return np.ascontiguousarray(np.moveaxis(summed, -1, 1))

    def _summed(self, column: Column, rows: int) -> NDArray[Any]:
        total = np.zeros((rows, self.weight.shape[1]))
        for first in np.unique(self.pairs[:, 0]):
            outputs = self.pairs[self.pairs[:, 0] == first, 1]
            sums = (column(first) + self.offset)[:, None] * self.weight[first, outputs]
            if first + 1 < len(self.weight):
                sums += (column(first + 1) + self.offset)[:, None] * self.weight[first + 1, outputs]
            total[:, outputs] += np.clip(sums, _LOWEST, _HIGHEST) - sums
        return (total * self.scale).astype(self.dtype)


@dataclass(frozen=True)
class _Window:
    """How a convolution over images slides: (vertical, horizontal) each; `padding` is the integer at the edge."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    padding: int

    def columns(self, values: Integers) -> tuple[Column, tuple[int, int, int]]:
        """One input of the sums at all positions, and (batch, height, width) of these; `values` are NCHW.

        The runtime sums over positions of the kernel first and channels second, as images lie in its memory.
        """
        top, left, bottom, right = self.pads
        padded = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=self.padding)
        spans = [
            (extent - dilation * (kernel - 1) - 1) // stride + 1
            for extent, kernel, stride, dilation in zip(
                padded.shape[2:], self.kernel, self.strides, self.dilations, strict=True
            )
        ]
        channels = values.shape[1]

        def column(position: int) -> Integers:
            at, channel = divmod(int(position), channels)
            offsets = [
                step * dilation for step, dilation in zip(divmod(at, self.kernel[1]), self.dilations, strict=True)
            ]
            rows, cols = (
                slice(offset, offset + (span - 1) * stride + 1, stride)
                for offset, span, stride in zip(offsets, spans, self.strides, strict=True)
            )
            return padded[:, channel, rows, cols].ravel()

        return column, (len(values), spans[0], spans[1])


def _integer_nodes(model: onnx.ModelProto) -> list[_IntegerNode]:
    """The nodes of an artifact whose sums are of U8 and S8, those that are computed in pairs.

    Depthwise convolutions are not: their kernel widens first. Nor are other forms that no method of ours makes.
    """
    reader = _Reader(model)
    return [found for node in model.graph.node if (found := reader.integer_node(node)) is not None]


class _Reader:
    def __init__(self, model: onnx.ModelProto) -> None:
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._producers = {name: node for node in model.graph.node for name in node.output}

    def integer_node(self, node: onnx.NodeProto) -> _IntegerNode | None:
        if node.op_type == "MatMulInteger":
            weight = self._signed(node.input[1])
            if weight is None or weight.ndim != 2:
                return None
            return _node(node, node.input[0], 0, weight, np.array(1.0), np.dtype(np.int32))
        if node.op_type not in COMPUTING:
            return None
        activation, stored = (self._dequantized(name) for name in node.input[:2])
        weight = self._signed(stored.input[0]) if stored is not None else None
        if activation is None or stored is None or weight is None:
            return None
        scale = np.array(self._value(activation.input[1]) * self._value(stored.input[1]), np.float64)
        zero_point = self._value(activation.input[2])
        offset = _SIGN_OFFSET if zero_point.dtype == np.int8 else 0
        window = None
        if node.op_type == "Conv":
            window = _window(node, weight.shape, int(zero_point))
            if window is None:
                return None
            weight = weight.transpose(2, 3, 1, 0).reshape(-1, len(weight))
        return _node(node, activation.input[0], offset, weight, scale, np.dtype(np.float32), window)

    def _dequantized(self, name: str) -> onnx.NodeProto | None:
        producer = self._producers.get(name)
        return producer if producer is not None and producer.op_type == "DequantizeLinear" else None

    def _signed(self, name: str) -> Weights | None:
        tensor = self._constants.get(name)
        if tensor is None or tensor.data_type != onnx.TensorProto.INT8:
            return None
        return self._value(name)

    def _value(self, name: str) -> NDArray[Any]:
        return onnx_files.array(self._constants[name])


def _node(
    node: onnx.NodeProto,
    source: str,
    offset: int,
    weight: Weights,
    scale: NDArray[np.float64],
    dtype: np.dtype[Any],
    window: _Window | None = None,
) -> _IntegerNode:
    return _IntegerNode(node.name, source, offset, weight, _risky_pairs(weight), scale, dtype, window)


def _window(node: onnx.NodeProto, shape: tuple[int, ...], padding: int) -> _Window | None:
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if len(shape) != 4 or given.get("group", 1) != 1 or given.get("auto_pad", b"NOTSET") not in {b"NOTSET", b"VALID"}:
        return None
    strides, dilations = (tuple(given.get(name, (1, 1))) for name in ("strides", "dilations"))
    return _Window(shape[2:], strides, dilations, tuple(given.get("pads", (0, 0, 0, 0))), padding)


def _risky_pairs(weight: Weights) -> NDArray[np.int64]:
    """Pairs `(count, 2)` of inputs up to 255 that the `weight` `(inputs, outputs)` of two could take out of 16 bits."""
    wide = weight.astype(np.int32)
    even, odd = wide[0::2], np.zeros_like(wide[0::2])
    odd[: len(wide[1::2])] = wide[1::2]
    highest = _LARGEST_ACTIVATION * (np.maximum(even, 0) + np.maximum(odd, 0))
    lowest = _LARGEST_ACTIVATION * (np.minimum(even, 0) + np.minimum(odd, 0))
    pairs = np.argwhere((highest > _HIGHEST) | (lowest < _LOWEST))
    pairs[:, 0] *= 2
    return pairs
