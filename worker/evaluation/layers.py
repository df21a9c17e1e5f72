"""Layer by layer: the tensors that original and variant both compute, and how far apart they are."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from app.contracts.figures import LayerFigures
from app.engines import Engine
from worker import inner_tensors, onnx_files
from worker.evaluation.fidelity import SignalAndNoise, finite_or_none
from worker.evaluation.precision import Precisions
from worker.operators import CLIPPING, LAYERS
from worker.samples import Feeder, Indices

_DEQUANTIZED = "_DequantizeLinear_Output"
_MOST_BATCH = 8


@dataclass(frozen=True)
class _Layer:
    """A tensor under the name of its node in the reference, and where to find it in either graph."""

    name: str
    operator: str
    in_reference: str
    in_variant: str


def compare_layers(
    reference: Path,
    artifact: Path,
    arrays: Mapping[str, NDArray[Any]],
    indices: Indices,
    *,
    engine: Engine,
    threads: int,
    progress: Callable[[float], None],
) -> list[LayerFigures]:
    """SQNR of each common layer over the samples at `indices`, the worst first.

    `reference` is FP32 and names its tensors as `artifact` does. Layers without a signal, or whose values are not
    finite, are left out.
    """
    before, after = (onnx_files.load(path, weights=False).graph for path in (reference, artifact))
    layers = _common_layers(before, after)
    if not layers or len(indices) == 0:
        return []
    exact, rounded = (
        inner_tensors.load_exposed(model, tensors, engine=engine, threads=threads)
        for model, tensors in (
            (reference, [layer.in_reference for layer in layers]),
            (artifact, [layer.in_variant for layer in layers]),
        )
    )
    feeder = Feeder(exact.inputs, arrays)
    batch = min(_MOST_BATCH, feeder.natural_batch)
    batches = feeder.batch_count(len(indices), batch)
    sums = [SignalAndNoise() for _ in layers]
    shapes: list[list[int]] = [[] for _ in layers]
    unusable: set[int] = set()
    for done, samples in enumerate(feeder.batches(indices, batch), start=1):
        pairs = zip(exact.run(samples.feeds), rounded.run(samples.feeds), strict=True)
        for position, (left, right) in enumerate(pairs):
            if _is_comparable(left, right):
                sums[position].add(left, right)
                shapes[position] = _of_one_sample(left.shape, len(next(iter(samples.feeds.values()))))
            else:
                unusable.add(position)
        progress(done / batches)
    precisions = Precisions(after, {name for node in before.node for name in node.output})
    figures = [
        LayerFigures(
            name=layer.name,
            operator=layer.operator,
            sqnr_db=finite_or_none(sums[position].sqnr_db),
            tensor=layer.in_reference,
            shape=shapes[position],
            **asdict(precisions.of(layer.operator, layer.in_reference, layer.in_variant)),
        )
        for position, layer in enumerate(layers)
        if position not in unusable and sums[position].signal > 0.0
    ]
    return sorted(figures, key=lambda layer: np.inf if layer.sqnr_db is None else layer.sqnr_db)


def _of_one_sample(shape: tuple[int, ...], rows: int) -> list[int]:
    return [1, *shape[1:]] if shape and shape[0] == rows else [*shape]


def _is_comparable(left: NDArray[Any], right: NDArray[Any]) -> bool:
    same = left.shape == right.shape and left.dtype.kind == "f" == right.dtype.kind
    return same and bool(np.isfinite(left).all() and np.isfinite(right).all())


def _common_layers(reference: onnx.GraphProto, variant: onnx.GraphProto) -> list[_Layer]:
    in_variant = {name for node in variant.node for name in node.output if name}
    readers = Counter(name for node in reference.node for name in node.input)
    sole_reader = {name: node for node in reference.node for name in node.input if readers[name] == 1}
    layers = []
    for node in reference.node:
        if node.op_type not in LAYERS or not node.output[0]:
            continue
        name = node.output[0]
        found = _counterpart(name, in_variant)
        if found is None:
            # The writer takes a Relu or Clip into the quantization of what it reads: the clipped tensor remains.
            clip = sole_reader.get(name)
            if clip is None or clip.op_type not in CLIPPING:
                continue
            name = clip.output[0]
            found = _counterpart(name, in_variant)
        if found is not None:
            layers.append(_Layer(node.name or name, node.op_type, name, found))
    return layers


def _counterpart(name: str, in_variant: set[str]) -> str | None:
    """Where `name`, rounding included, is found in a quantized graph."""
    return next((found for found in (name + _DEQUANTIZED, name) if found in in_variant), None)
