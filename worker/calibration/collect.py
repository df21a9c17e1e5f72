"""Samples through the FP32 graph → the statistics of its tensors, in one pass."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines import Engine, LoadedModel
from app.errors import JobFailed
from worker import inner_tensors, onnx_files
from worker.calibration.histogram import Histogram
from worker.calibration.observers import BOUND, Observers
from worker.calibration.statistics import ChannelStatistics, Statistics
from worker.samples import Feeder, Indices

# Values of a tensor that leave the graph in a batch, at most.
_SAMPLE_BOUND = 6144
# Batches whose samples wait to be counted together: a histogram costs as much for one as for several.
_WAITING = 8
# Highest values of parts are counted one by one unless they come to this share of all: more, and they are no tail.
_TAIL = 1 / 256


def collect(
    model: Path,
    tensors: Sequence[str],
    arrays: Mapping[str, NDArray[Any]],
    indices: Indices,
    *,
    channels: Mapping[str, int],
    engine: Engine,
    threads: int,
    progress: Callable[[float], None],
) -> Statistics:
    """Histograms of `tensors` (FP32, of the model's main graph), over the samples of `arrays` at `indices`.

    `channels` names FP32 tensors, of those or others, whose channels are to be told apart, each with their axis: 1 or
    -1. Extremes are those of all values, but for the minimum of a tensor that cannot be negative; histograms are made
    of an evenly spread sample of each batch, and of extremes; means are those of every fourth sample of a batch.
    A tensor that was empty in every batch is in neither mapping.

    `progress` is called with the share done after each batch. Memory is that of one batch and of a few samples of
    each tensor. Raises `JobFailed`, naming the tensor, when one takes a value that is not finite.
    """
    observers = Observers(tensors, channels)
    loaded = _load(model, observers, engine, threads)
    feeder = Feeder([spec for spec in loaded.inputs if spec.name != BOUND], arrays)
    found = {name: _Seen(name) for name in observers.tensors}
    batches = feeder.batch_count(len(indices))
    # Different bounds are different steps, and so different elements.
    bounds = np.random.default_rng(0).integers(_SAMPLE_BOUND * 3 // 4, _SAMPLE_BOUND, (batches, 1), endpoint=True)
    for done, batch in enumerate(feeder.batches(indices), start=1):
        results = loaded.run({**batch.feeds, BOUND: bounds[done - 1]}, observers.outputs)
        for name, seen in observers.read(results):
            found[name].add(seen)
        spoilt = [name for name, total in observers.answers(results) if np.isnan(total)]
        if spoilt or done % _WAITING == 0 or done == batches:
            for one in found.values():
                one.count()
        if spoilt:
            raise _not_finite(spoilt[0])
        progress(done / batches)
    chosen = frozenset(tensors)
    return Statistics(
        {name: one.histogram for name, one in found.items() if one.size and name in chosen},
        {name: one.channels() for name, one in found.items() if one.size and name in channels},
    )


def _load(model: Path, observers: Observers, engine: Engine, threads: int) -> LoadedModel:
    proto = onnx_files.load(model, weights=False)
    observers.attach(proto)
    return inner_tensors.load_edited(proto, model.parent, engine=engine, threads=threads)


class _Seen:
    """All that was seen of one tensor."""

    def __init__(self, name: str) -> None:
        self.histogram = Histogram()
        self.size = 0
        self._name = name
        # By size of the tensor, since a sampled value stands for more of a larger one.
        self._waiting: dict[int, list[Mapping[str, NDArray[Any]]]] = {}
        self._largest: NDArray[np.float32] | float = 0.0
        self._mean: NDArray[np.float64] | float = 0.0
        self._mean_square: NDArray[np.float64] | float = 0.0
        self._part_size = 0

    def add(self, seen: Mapping[str, NDArray[Any]]) -> None:
        """Take in a batch, as `Observers.read` tells of it."""
        size = int(seen["size"])
        if size == 0:
            return
        self.size += size
        self._waiting.setdefault(size, []).append(seen)
        if "mean" in seen:
            part = int(seen["part_size"])
            self._part_size += part
            share = part / self._part_size
            self._mean += share * (seen["mean"].astype(np.float64) - self._mean)
            self._mean_square += share * (seen["mean_square"].astype(np.float64) - self._mean_square)

    def count(self) -> None:
        """Make histograms of the samples that wait. Raises `JobFailed` when a value was not finite."""
        for size, batches in self._waiting.items():
            channels = "mean" in batches[0]
            high, low = (_joined(batches, kind, channels=channels) for kind in ("high", "low"))
            sample = _joined(batches, "sample")
            self._check_finite(high, low, sample)
            if channels:
                for extremes in (high, low):
                    self._largest = np.maximum(self._largest, np.abs(extremes).max(axis=0, initial=0.0))
            if sample.size:
                total = size * len(batches)
                lows = low if low.size else sample.min()
                self.histogram.add(sample, _tail(lows, total, np.min), _tail(high, total, np.max), total)
        self._waiting.clear()

    def channels(self) -> ChannelStatistics:
        # Squares may overflow where values do not.
        limit = float(np.finfo(np.float32).max)
        return ChannelStatistics(
            np.clip(self._mean, -limit, limit),
            np.clip(self._mean_square, 0.0, limit),
            np.asarray(self._largest, np.float64),
        )

    def _check_finite(self, *values: NDArray[np.float32]) -> None:
        # The runtime's extremes pass over NaN: samples, means and the sums of the answers do not.
        if not (all(np.isfinite(of).all() for of in values) and not np.isnan(self._mean).any()):
            raise _not_finite(self._name)


def _not_finite(name: str) -> JobFailed:
    return JobFailed(
        f"on the calibration samples, tensor '{name}' of the model takes values that are not finite;"
        " check the samples' preprocessing, and that the original answers them with finite numbers"
    )


def _joined(batches: Iterable[Mapping[str, NDArray[Any]]], kind: str, *, channels: bool = False) -> NDArray[np.float32]:
    """The values of all batches: (values,), or (parts, channels)."""
    found = [np.atleast_2d(seen[kind]) if channels else seen[kind].reshape(-1) for seen in batches if kind in seen]
    return np.concatenate(found) if found else np.empty(0, np.float32)


def _tail(extremes: NDArray[np.float32], total: int, reduce: Any) -> NDArray[np.float32]:
    """`extremes` of parts, or of larger parts, so that they are few among `total` values."""
    while extremes.ndim and extremes.size > total * _TAIL:
        extremes = np.asarray(reduce(extremes, axis=0))
    return extremes
