"""What a range costs: the squared error of clipping to its ends and of rounding to its levels."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worker.calibration.histogram import BINS, Histogram

Reals = NDArray[np.float64]


class Noise:
    """Of the quantization of one tensor, known by its histogram, to `levels` evenly spaced values.

    A bin's values are taken to lie at its centre where they are clipped; where they are rounded, the error is that of
    values spread evenly over a step, step²/12 each (Widrow & Kollár, Quantization Noise, 2008), but none for exact
    zeros, which a level always meets. With sums over all bins up to each, a range costs a few look-ups, however many
    ranges are asked about at once.
    """

    def __init__(self, histogram: Histogram, levels: int) -> None:
        self.low, self.high = min(histogram.minimum, 0.0), max(histogram.maximum, 0.0)
        self._start, self._width = histogram.low_edge, histogram.width
        self._levels, self._zeros = levels, histogram.zeros
        centres = self._start + self._width * (np.arange(BINS) + 0.5)
        np.clip(centres, histogram.minimum, histogram.maximum, out=centres)
        self._counts = _sums_before(histogram.counts)
        self._first = _sums_before(histogram.counts * centres)
        self._second = _sums_before(histogram.counts * np.square(centres))

    def relative(self, low: ArrayLike, high: ArrayLike, clipping_weight: float = 1.0) -> Reals:
        """Expected squared error over mean square, of ranges `low` ≤ 0 ≤ `high` that broadcast; 0 for zeros alone.

        The part of it that clipping makes counts `clipping_weight` times.
        """
        low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        power = self._second[-1]
        if power == 0.0:
            return np.zeros(np.broadcast_shapes(low.shape, high.shape))
        begin, end = self._bins(low, high)
        below = _squares(self._counts[begin], self._first[begin], self._second[begin], low)
        above = _squares(
            self._counts[-1] - self._counts[end],
            self._first[-1] - self._first[end],
            power - self._second[end],
            high,
        )
        step = (high - low) / (self._levels - 1)
        rounded = np.maximum(self._counts[end] - self._counts[begin] - self._zeros, 0.0)
        noise: Reals = (clipping_weight * (below + above) + rounded * np.square(step) / 12.0) / power
        return noise

    def clipped(self, low: ArrayLike, high: ArrayLike) -> Reals:
        """The count of values outside of each range."""
        begin, end = self._bins(np.asarray(low, np.float64), np.asarray(high, np.float64))
        outside: Reals = self._counts[-1] - self._counts[end] + self._counts[begin]
        return outside

    def _bins(self, low: Reals, high: Reals) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The first bin that is not wholly below `low`, and the first that is wholly above `high`."""
        begin = np.floor((low - self._start) / self._width)
        end = np.ceil((high - self._start) / self._width)
        # The last value lies in a bin, not at its end.
        end = np.where(high >= self.high, BINS, end)
        return np.clip(begin, 0, BINS).astype(np.int64), np.clip(end, 0, BINS).astype(np.int64)


def _sums_before(values: Reals) -> Reals:
    sums = np.zeros(BINS + 1)
    np.cumsum(values, out=sums[1:])
    return sums


def _squares(count: Reals, first: Reals, second: Reals, bound: Reals) -> Reals:
    """Σ (x - bound)² by the count, Σ x and Σ x², which rounding may leave a little below zero."""
    return np.maximum(second - 2.0 * bound * first + np.square(bound) * count, 0.0)
