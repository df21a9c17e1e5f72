"""An INT8 graph that is yet to be written: everything that decides its bytes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from app.contracts.options import RangeMethod
from worker import onnx_files
from worker.calibration.histogram import Histogram
from worker.calibration.ranges import ActivationRange, Ranges, as_onnxruntime
from worker.calibration.statistics import ChannelStatistics
from worker.graph import bias, embeddings, hard_sigmoid, interface, narrow
from worker.graph.constants import Constants
from worker.graph.integer_types import IntegerTypes
from worker.graph.selection import Selection
from worker.graph.weights import Reader, Scales, Weight, clipped, largest_integer, overrides, weights
from worker.graph.writers import write_qdq


@dataclass(frozen=True)
class Design:
    """What is to be made of the FP32 graph in the file `model`.

    `original` is the upload as its clients see it. Nodes `excluded` by name stay in FP32. `ranges`, found by
    `range_method`, cover the activations of `selection`; `channels` the inputs of its computing nodes. `scales` are by
    weight; where there are none, no weight is clipped. `errors` by node are the mean errors `(channels,)` that its bias
    takes back. `histograms` are what `ranges` were found on. `repairs` say in words, by node, what was done to it.
    """

    model: Path
    original: onnx.ModelProto
    selection: Selection
    ranges: Ranges
    channels: Mapping[str, ChannelStatistics]
    types: IntegerTypes
    per_channel: bool
    range_method: RangeMethod = "minmax"
    excluded: frozenset[str] = frozenset()
    scales: Mapping[str, Scales] = field(default_factory=dict)
    errors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    repairs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def repaired(self, done: Mapping[str, str]) -> "Design":
        """The same design, with one more thing `done` to some nodes, in words."""
        repairs = {name: (*self.repairs.get(name, ()), words) for name, words in done.items()}
        return replace(self, repairs={**self.repairs, **repairs})

    def weights(self, model: onnx.ModelProto) -> list[Weight]:
        """The weights to be rounded, of this design's `model` in memory."""
        return list(weights(model, frozenset(self.selection.nodes), per_channel=self.per_channel))

    def write(self, path: Path) -> Path | None:
        """Write the artifact to `path`; returns the data file beside it, if one was needed."""
        model = onnx_files.load(self.model, weights=False)
        largest = largest_integer(self.types)
        found = self.weights(model)
        scales = self.all_scales(found)
        read = clipped(found, scales, largest)
        names = [weight.name for weight in found]
        bias.correct(model, self.errors)
        embeddings.quantize(model, frozenset(self.selection.tables))
        written = write_qdq(
            model,
            self.selection,
            as_onnxruntime(self._written_ranges()),
            self.types,
            per_channel=self.per_channel,
            overrides=overrides(found, scales),
            read=read,
        )
        _keep_clipped(written, names, read)
        hard_sigmoid.lower(written)
        narrow.clip_integers(written, self.types)
        interface.restore(written, self.original)
        return onnx_files.save(written, path)

    def _written_ranges(self) -> dict[str, ActivationRange]:
        return {
            name: ActivationRange(*narrow.stretched(found.low, found.high, self.types))
            for name, found in self.all_ranges().items()
        }

    def all_scales(self, found: Iterable[Weight]) -> dict[str, Scales]:
        """The scales of the weights `found`, those included at which nothing is clipped."""
        largest = largest_integer(self.types)
        return {weight.name: self.scales.get(weight.name, weight.plain(largest)) for weight in found}

    def all_ranges(self) -> dict[str, ActivationRange]:
        """The ranges of every activation that becomes integer."""
        chosen = dict(self.ranges)
        chosen |= {name: ActivationRange(*bounds) for name, bounds in self.selection.fixed.items()}
        return chosen | {name: chosen[source] for name, source in self.selection.same_range.items()}


def _keep_clipped(model: onnx.ModelProto, names: Iterable[str], read: Reader) -> None:
    """Clip those of the weights `names` that a node in FP32 reads too, and that stay for it."""
    tensors, constants = {tensor.name: tensor for tensor in model.graph.initializer}, Constants(model.graph)
    for name in names:
        if name in constants:
            constants.replace(name, read(tensors[name]))
