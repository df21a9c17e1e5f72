"""What calibration saw of the activations around the noisiest layers, and which integers they became."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from app.contracts.figures import LayerFigures
from worker import onnx_files
from worker.calibration.histogram import Histogram
from worker.onnx_files import array

#: So many tensors are shown, in so many bins each, at most.
MOST_TENSORS, MOST_BINS = 8, 64

_DIGITS = 4


@dataclass(frozen=True)
class Quantizer:
    """The integers of one tensor in the artifact: of type `datatype`, a step of one being `scale`."""

    scale: float
    zero_point: int
    datatype: str


@dataclass(frozen=True)
class Activation:
    """A tensor that `layer` writes or reads. `low`..`high` is the range that its integers stand for.

    Bin i of the histogram holds the share `shares[i]` of all values seen in calibration, from
    `first_edge + i·bin_width` on; `minimum` and `maximum` are the extremes of these. `clipped` is the share beyond the
    range.
    """

    layer: str
    tensor: str
    low: float
    high: float
    quantizer: Quantizer
    minimum: float
    maximum: float
    clipped: float
    first_edge: float
    bin_width: float
    shares: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        found = asdict(self)
        found.update(found.pop("quantizer"))
        return found


def activations(
    reference: Path,
    artifact: Path,
    ranges: Mapping[str, tuple[float, float]],
    histograms: Mapping[str, Histogram],
    layers: Sequence[LayerFigures],
) -> list[Activation]:
    """Of the worst of `layers`, which come in that order: what each writes or, where that stays FP32, what it reads.

    `ranges` and `histograms` are of tensors of the graph `reference`, of which `artifact` was made.
    """
    if not ranges or not histograms:
        return []
    inputs = {
        node.name: node.input[0] for node in onnx_files.load(reference, weights=False).graph.node if len(node.input)
    }
    quantizers = _quantizers(onnx_files.load(artifact, weights=False).graph)
    found: dict[str, Activation] = {}
    for layer in layers:
        if len(found) == MOST_TENSORS:
            break
        for tensor in (layer.tensor, inputs.get(layer.name)):
            if tensor is not None and tensor in ranges and tensor in histograms and tensor in quantizers:
                if tensor not in found and histograms[tensor].count > 0:
                    found[tensor] = _activation(
                        layer.name, tensor, ranges[tensor], quantizers[tensor], histograms[tensor]
                    )
                break
    return list(found.values())


def _quantizers(graph: onnx.GraphProto) -> dict[str, Quantizer]:
    """By tensor, for those with one scale."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    found = {}
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and len(node.input) > 2 and {*node.input[1:3]} <= constants.keys():
            scale, zero_point = (array(constants[name]) for name in node.input[1:3])
            if scale.size == 1:
                found[node.input[0]] = Quantizer(float(scale.item()), int(zero_point.item()), str(zero_point.dtype))
    return found


def _activation(
    layer: str, tensor: str, bounds: tuple[float, float], quantizer: Quantizer, histogram: Histogram
) -> Activation:
    low, high = bounds
    used = np.flatnonzero(histogram.counts)
    # Bins are joined from a multiple of their new width on, as histograms themselves do it.
    joined = 1
    while (histogram.first + used[-1]) // joined - (histogram.first + used[0]) // joined >= MOST_BINS:
        joined *= 2
    first = (histogram.first + int(used[0])) // joined
    places = (histogram.first + used) // joined - first
    shares = np.bincount(places, histogram.counts[used]) / histogram.count
    return Activation(
        layer,
        tensor,
        low,
        high,
        quantizer,
        histogram.minimum,
        histogram.maximum,
        _clipped(histogram, low, high),
        first * joined * histogram.width,
        joined * histogram.width,
        tuple(float(f"{share:.{_DIGITS}g}") for share in shares),
    )


def _clipped(histogram: Histogram, low: float, high: float) -> float:
    """The share of values outside of `low` to `high`, as far as bins tell: those within one are spread evenly."""
    edges = histogram.low_edge + histogram.width * np.arange(len(histogram.counts) + 1)
    cumulated = np.concatenate([[0.0], np.cumsum(histogram.counts)])
    below = np.interp(low, edges, cumulated) if low > histogram.minimum else 0.0
    above = cumulated[-1] - np.interp(high, edges, cumulated) if high < histogram.maximum else 0.0
    return float((below + above) / cumulated[-1])
