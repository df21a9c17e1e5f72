"""Samples through the FP32 graph → the statistics of its tensors, in one pass."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines import ENGINES, LoadedModel
from app.errors import JobFailed
from worker import onnx_files
from worker.calibration.histogram import Histogram
from worker.calibration.observers import BOUND, Observers
from worker.calibration.statistics import ChannelStatistics, Statistics
from worker.samples import Feeder, Indices

# Values of a tensor that leave the graph in a batch, at most.
_SAMPLE_BOUND = 8192


def collect(
    model: Path,
    tensors: Sequence[str],
    arrays: Mapping[str, NDArray[Any]],
    indices: Indices,
    *,
    channels: Mapping[str, int],
    threads: int,
    progress: Callable[[float], None],
) -> Statistics:
    """Histograms of `tensors` (FP32, of the model's main graph), over the samples of `arrays` at `indices`.

    `channels` names FP32 tensors, of those or others, whose channels are to be told apart, each with their axis: 1 or
    -1. Extremes and statistics of channels are those of all values; histograms are made of an evenly spread sample of
    the values of each batch, and the extremes. A tensor that was empty in every batch is in neither mapping.
    `progress` is called with the share done after each batch. Memory is that of one batch. Raises `JobFailed`,
    naming the tensor, when one takes a value that is not finite.
    """
    observers = Observers(tensors, channels)
    loaded = _load(model, observers, threads)
    feeder = Feeder([spec for spec in loaded.inputs if spec.name != BOUND], arrays)
    found: dict[str, _Seen] = {name: _Seen() for name in observers.tensors}
    batches = feeder.batch_count(len(indices))
    bounds = np.random.default_rng(0).integers(_SAMPLE_BOUND * 3 // 4, _SAMPLE_BOUND, (batches, 1), endpoint=True)
    for done, batch in enumerate(feeder.batches(indices)):
        results = loaded.run({**batch.feeds, BOUND: bounds[done]}, observers.outputs)
        for name, seen in observers.read(results):
            found[name].add(name, seen)
        progress((done + 1) / batches)
    chosen = frozenset(tensors)
    return Statistics(
        {name: one.histogram for name, one in found.items() if one.count and name in chosen},
        {name: one.channels() for name, one in found.items() if one.count and name in channels},
    )


def _load(model: Path, observers: Observers, threads: int) -> LoadedModel:
    proto = onnx_files.load(model, weights=False)
    observers.attach(proto)
    observed = model.with_name("observed.onnx")
    observed.write_bytes(proto.SerializeToString())
    del proto
    try:
        return ENGINES["onnxruntime"].load(observed, intra_op_threads=threads)
    finally:
        observed.unlink()


class _Seen:
    """All that was seen of one tensor."""

    def __init__(self) -> None:
        self.histogram = Histogram()
        self.count = 0
        self._low: NDArray[np.float64] | float = np.inf
        self._high: NDArray[np.float64] | float = -np.inf
        self._sum: NDArray[np.float64] | float = 0.0
        self._square_sum: NDArray[np.float64] | float = 0.0

    def add(self, name: str, seen: Mapping[str, NDArray[Any]]) -> None:
        """Take in a batch; scalars, or (channels,) each, and the sample if there is one."""
        size = int(seen["size"])
        if size == 0:
            return
        low, high, total = (np.asarray(seen[kind], np.float64) for kind in ("low", "high", "sum"))
        _check_finite(name, low, high, total)
        self.count += size
        if "sample" in seen:
            self.histogram.add(seen["sample"], float(low.min()), float(high.max()), size)
        if "square_sum" in seen:
            self._low = np.minimum(self._low, low)
            self._high = np.maximum(self._high, high)
            self._sum = self._sum + total
            self._square_sum = self._square_sum + np.asarray(seen["square_sum"], np.float64)

    def channels(self) -> ChannelStatistics:
        """Raises nothing only where channels were seen."""
        total, squares = np.asarray(self._sum), np.asarray(self._square_sum)
        each = self.count / total.size
        # Squares may overflow where values do not.
        largest = np.finfo(np.float32).max
        return ChannelStatistics(
            np.clip(total / each, -largest, largest),
            np.clip(squares / each, 0.0, largest),
            np.maximum(np.abs(self._low), np.abs(self._high)),
        )


def _check_finite(name: str, low: NDArray[np.float64], high: NDArray[np.float64], total: NDArray[np.float64]) -> None:
    # A sum may overflow where no value is infinite.
    if np.isfinite(low).all() and np.isfinite(high).all() and not np.isnan(total).any():
        return
    raise JobFailed(
        f"on the calibration samples, tensor '{name}' of the model takes values that are not finite;"
        " check the samples' preprocessing, and that the original answers them with finite numbers"
    )
