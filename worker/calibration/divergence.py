"""The range whose integers tell most of how values are distributed: a search by Kullback-Leibler divergence.

After S. Migacz, "8-bit Inference with TensorRT", GTC 2017: of a histogram cut at a threshold, P is the distribution
with the values beyond it added to the last bin, and Q is made of the same bins without these, each level's count
spread evenly over those of its bins that are not empty. Taken is the threshold at which Q misses least of P. Here
both ends of a range are sought, and the bins of a level follow from where the range lies.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from worker.calibration.histogram import BINS, Histogram

Edges = NDArray[np.int64]
Reals = NDArray[np.float64]

# Thresholds tried all over an end's reach, then around the best of them; and how often both ends take turns.
_COARSE, _FINE = 40, 20
_TURNS = 2


def least_divergent(histogram: Histogram, levels: int) -> tuple[float, float]:
    """The ends of the range, low ≤ 0 ≤ high; (0, 0) where there is no value but zero."""
    return _Search(histogram, levels).range()


class _Search:
    """Of one histogram; ranges are edges of bins, begin and end, of which end is outside."""

    def __init__(self, histogram: Histogram, levels: int) -> None:
        counts = histogram.counts.copy()
        zero = -histogram.first
        if 0 <= zero < BINS:
            # One level stands for zero in every range: were it not left out, Relu's would drown all other values.
            counts[zero] = max(0.0, counts[zero] - histogram.zeros)
        self._histogram, self._levels, self._counts = histogram, levels, counts
        self._before = _sums_before(counts)
        self._logs_before = _sums_before(_times_log(counts))
        self._filled_before = _sums_before(counts > 0)

    def range(self) -> tuple[float, float]:
        filled = np.flatnonzero(self._counts)
        if not filled.size:
            return 0.0, 0.0
        first, last = int(filled[0]), int(filled[-1]) + 1
        # Zero's bin, or the nearest where all values have one sign.
        zero = int(np.clip(-self._histogram.first, first, last))
        begin, end = first, last
        for _ in range(_TURNS if first < zero < last else 1):
            if zero < last:
                end = _least(partial(self._divergence, np.array([begin])), zero + 1, last)
            if first < zero:
                begin = _least(partial(self._divergence, end=np.array([end])), first, zero - 1)
        return self._bounds(begin, end)

    def _bounds(self, begin: int, end: int) -> tuple[float, float]:
        histogram = self._histogram
        low = histogram.low_edge + begin * histogram.width
        high = histogram.low_edge + end * histogram.width
        return min(0.0, max(low, histogram.minimum)), max(0.0, min(high, histogram.maximum))

    def _divergence(self, begin: Edges, end: Edges) -> Reals:
        """KL(P || Q) of ranges that broadcast to (ranges,), by sums up to the levels' first bins."""
        begin, end = np.broadcast_arrays(begin, end)
        shares = np.arange(self._levels + 1) / self._levels
        levels = begin[:, None] + np.rint((end - begin)[:, None] * shares).astype(np.int64)
        counts = np.diff(self._before[levels])
        with np.errstate(divide="ignore", invalid="ignore"):
            # Of a bin that is not empty, by level.
            means = np.where(counts > 0, counts / np.diff(self._filled_before[levels]), 0.0)
        below, above = self._before[begin], self._before[-1] - self._before[end]
        first, last = self._counts[begin], self._counts[end - 1]
        inside = self._before[end] - self._before[begin]

        reference = self._logs_before[end] - self._logs_before[begin]
        reference = reference + _times_log(first + below) - _times_log(first)
        reference = reference + _times_log(last + above) - _times_log(last)
        candidate = np.sum(counts * np.log(np.maximum(means, 1.0)), axis=1)
        # A last bin that is empty holds one value, so that what is cut off has somewhere to go.
        candidate += below * np.log(np.where(first > 0, np.maximum(means[:, 0], 1.0), 1.0))
        candidate += above * np.log(np.where(last > 0, np.maximum(means[:, -1], 1.0), 1.0))
        total = self._before[-1]
        divergence: Reals = (reference - candidate) / total - np.log(total / np.maximum(inside, 1.0))
        return np.where(inside > 0, divergence, np.inf)


def _least(divergence: Callable[[Edges], Reals], low: int, high: int) -> int:
    """The edge, from `low` to `high`, of least divergence; the first of several."""
    tried = np.unique(np.linspace(low, high, _COARSE).astype(np.int64))
    best = int(np.argmin(divergence(tried)))
    around = tried[max(0, best - 1)], tried[min(len(tried) - 1, best + 1)]
    tried = np.unique(np.linspace(*around, _FINE).astype(np.int64))
    return int(tried[np.argmin(divergence(tried))])


def _sums_before(values: NDArray[np.float64] | NDArray[np.bool_]) -> Reals:
    sums = np.zeros(BINS + 1)
    np.cumsum(values, out=sums[1:])
    return sums


def _times_log(values: Reals) -> Reals:
    """x · log x, 0 at 0."""
    found: Reals = values * np.log(np.maximum(values, np.finfo(np.float64).tiny))
    return found
