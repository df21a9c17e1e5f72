"""How often a tensor took which values: a histogram of bounded size that needs no range beforehand."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float32] | NDArray[np.float64]

BINS = 2048

# A bin narrower than this holds one float32 of the largest magnitude at most.
_SIGNIFICANT_BITS = 23
# The factor by which values are multiplied has to be a float32, and so has the product.
_NARROWEST = -100


class Histogram:
    """Of the values of one tensor seen so far.

    Bin i of all bins that there could be holds the values from i·2^e up to but without (i+1)·2^e; kept are `BINS`
    bins from `first` on. A wider range takes a larger `exponent` e, each bin of which is a whole number of smaller
    ones, so that no count is ever split or moved: e follows from minimum and maximum alone, and histograms of parts,
    merged in whatever order, are the histogram of the whole. Between half of the bins and all of them are in use.

    `counts`: (BINS,) float64, since a value may stand for several. `zeros`: the count of values that are exactly
    zero, also in their bin: integers stand for them without an error. `minimum` and `maximum` are exact.
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.float64] = np.zeros(BINS)
        self.zeros = 0.0
        self.minimum = math.inf
        self.maximum = -math.inf
        self.exponent = _NARROWEST
        self.first = 0

    @property
    def count(self) -> float:
        """The number of values seen."""
        return float(self.counts.sum())

    @property
    def width(self) -> float:
        """That of a bin."""
        return math.ldexp(1.0, self.exponent)

    @property
    def low_edge(self) -> float:
        """Where the first of `counts` begins."""
        return math.ldexp(float(self.first), self.exponent)

    def add(self, values: FloatArray, low: ArrayLike, high: ArrayLike, count: int | None = None) -> None:
        """Take in `values`, all finite, any shape: all values of a batch, or a sample of `count` of them.

        `low` and `high` are the extremes of all of them, or of parts of them that make up the whole. As a sample
        misses these, each counts once beside it. Nothing happens when `count`, or else `values`, is empty.
        """
        values = values.reshape(-1)
        count = values.size if count is None else count
        if count == 0:
            return
        lows, highs = np.asarray(low, np.float64).reshape(-1), np.asarray(high, np.float64).reshape(-1)
        self._extend(float(lows.min()), float(highs.max()))
        found, zeros = self._counted(values)
        if count > values.size:
            extremes = np.concatenate([lows, highs])[:count]
            weight = (count - extremes.size) / max(1, values.size)
            extreme_counts, extreme_zeros = self._counted(extremes)
            found, zeros = found * weight + extreme_counts, zeros * weight + extreme_zeros
        self.counts += found
        self.zeros += zeros

    def _counted(self, values: FloatArray) -> tuple[NDArray[np.float64], float]:
        """How many of `values` are in each bin, and how many are zero. Scaling by a power of two is exact."""
        scaled = values * values.dtype.type(math.ldexp(1.0, -self.exponent))
        np.floor(scaled, out=scaled)
        bins = scaled.astype(np.int64)
        bins -= self.first
        counts = np.bincount(bins, minlength=BINS).astype(np.float64)
        return counts, float(values.size - np.count_nonzero(values))

    def merge(self, other: "Histogram") -> None:
        """Take in all that `other` has seen."""
        if other.minimum > other.maximum:
            return
        self._extend(other.minimum, other.maximum)
        self.counts += _rebinned(other.counts, other.first, self.exponent - other.exponent, self.first)
        self.zeros += other.zeros

    def _extend(self, low: float, high: float) -> None:
        """Make room for values from `low` to `high`."""
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise ValueError(f"[{low}, {high}] cannot be the extremes of finite values")
        if self.minimum <= low and high <= self.maximum:
            return
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        exponent = _exponent(self.minimum, self.maximum)
        first = _bin(self.minimum, exponent)
        self.counts = _rebinned(self.counts, self.first, exponent - self.exponent, first)
        self.exponent, self.first = exponent, first


def _bin(value: float, exponent: int) -> int:
    return math.floor(math.ldexp(value, -exponent))


def _exponent(low: float, high: float) -> int:
    """The least at which the bins of `low` and `high` are at most `BINS` apart; grows with the range only."""
    _, magnitude = math.frexp(max(abs(low), abs(high)))
    exponent = max(_NARROWEST, magnitude - _SIGNIFICANT_BITS)
    while _bin(high, exponent) - _bin(low, exponent) >= BINS:
        exponent += 1
    return exponent


def _rebinned(counts: NDArray[np.float64], first: int, doublings: int, new_first: int) -> NDArray[np.float64]:
    """`counts` of bins from `first` on, in bins 2^`doublings` times as wide from `new_first` on."""
    filled = np.flatnonzero(counts)
    rebinned = np.zeros(BINS)
    if filled.size:
        np.add.at(rebinned, ((filled + first) >> min(doublings, 62)) - new_first, counts[filled])
    return rebinned
