"""Histograms → ranges: by six methods, or by whichever of them errs least."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData

from app.contracts.options import RangeMethod
from worker.calibration.divergence import least_divergent
from worker.calibration.histogram import BINS, Histogram
from worker.calibration.noise import Noise

#: Of eight bits.
LEVELS = 256

#: What is clipped errs in one direction, and so do the layers that read it, where errors of rounding cancel out:
#: judged by what the whole model answers, ranges are best that are searched with clipping counted several times over.
CLIPPING_WEIGHT = 4.0

# Errors that differ by less are one: the estimate is no better.
_TIE = 1.01


@dataclass(frozen=True)
class ActivationRange:
    """The values, `low` to `high`, that the integers of one tensor are to stand for."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low <= self.high):
            raise ValueError(f"[{self.low}, {self.high}] is not a range")


Ranges = Mapping[str, ActivationRange]


@dataclass(frozen=True)
class FoundRange:
    """The range of a tensor that `method`, never "auto", found: low ≤ 0 ≤ high.

    `error` is the squared error that quantizing to it is expected to make, over the mean square of the tensor.
    """

    low: float
    high: float
    method: RangeMethod
    error: float

    @property
    def range(self) -> ActivationRange:
        return ActivationRange(self.low, self.high)

    @property
    def sqnr_db(self) -> float:
        """The signal-to-quantization-noise ratio to expect, in decibels; infinite for a tensor of zeros."""
        return -10.0 * math.log10(self.error) if self.error > 0 else math.inf


def find_range(histogram: Histogram, method: RangeMethod, levels: int = LEVELS) -> FoundRange:
    """The range that `method` finds for values of this histogram, to be rounded to `levels` values.

    Every range holds zero, which integers must stand for exactly, and nothing beyond zero and the values. "auto" takes
    the range of least expected error, clipping counted `CLIPPING_WEIGHT` times, and, of those that are within 1% of it,
    the one that clips fewest values. Raises `ValueError` for a histogram of nothing.
    """
    if histogram.minimum > histogram.maximum:
        raise ValueError("no value was seen")
    noise = Noise(histogram, levels)
    names = list(_METHODS) if method == "auto" else [method]
    weight = CLIPPING_WEIGHT if method == "auto" else 1.0
    found = [_METHODS[name](histogram, noise, levels) for name in names]
    if method == "auto":
        names.append("mse")
        found.append(_least_error(noise, weight))
    bounds = np.array(found)
    errors = noise.relative(bounds[:, 0], bounds[:, 1], weight)
    clipped = noise.clipped(bounds[:, 0], bounds[:, 1])
    tied = np.flatnonzero(errors <= errors.min() * _TIE)
    best = tied[np.argmin(clipped[tied])]
    low, high = (float(bound) for bound in bounds[best])
    return FoundRange(low, high, names[best], float(noise.relative(low, high)))


def find_ranges(
    histograms: Mapping[str, Histogram], method: RangeMethod, levels: int = LEVELS
) -> dict[str, ActivationRange]:
    """The range that `find_range` finds for each tensor, by name."""
    return {name: find_range(histogram, method, levels).range for name, histogram in histograms.items()}


Bounds = tuple[float, float]


def _minmax(histogram: Histogram, noise: Noise, levels: int) -> Bounds:
    return noise.low, noise.high


def _percentile(percent: float) -> Callable[[Histogram, Noise, int], Bounds]:
    def found(histogram: Histogram, noise: Noise, levels: int) -> Bounds:
        """The range of `percent` of all values; the rest is cut off where values lie beyond zero, half at each end."""
        beyond = histogram.count * (1.0 - percent / 100.0)
        if noise.low < 0.0 < noise.high:
            beyond /= 2.0
        edges = histogram.low_edge + histogram.width * np.arange(BINS + 1)
        cumulated = np.concatenate([[0.0], np.cumsum(histogram.counts)])
        low, high = np.interp([beyond, cumulated[-1] - beyond], cumulated, edges)
        return min(0.0, max(noise.low, low)), max(0.0, min(noise.high, high))

    return found


def _entropy(histogram: Histogram, noise: Noise, levels: int) -> Bounds:
    return least_divergent(histogram, levels)


# Of the search for the least error: factors of both ends tried at first, then around the best of the round before.
_WHOLE_REACH = np.linspace(1.0, 0.0, 24, endpoint=False)
_REFINED = np.linspace(-1.0, 1.0, 9)
_REFINEMENTS = 3


def _mse(histogram: Histogram, noise: Noise, levels: int) -> Bounds:
    return _least_error(noise, 1.0)


def _least_error(noise: Noise, clipping_weight: float) -> Bounds:
    """Both ends at once on a grid, then on ever smaller ones: the error has one valley, as a rule, but no formula."""
    lows, highs, spacing = _WHOLE_REACH, _WHOLE_REACH, 1.0 / len(_WHOLE_REACH)
    low, high = 1.0, 1.0
    for _ in range(1 + _REFINEMENTS):
        # An end at zero has nowhere to go.
        lows, highs = (lows if noise.low < 0 else np.ones(1)), (highs if noise.high > 0 else np.ones(1))
        errors = noise.relative(noise.low * lows[:, None], noise.high * highs, clipping_weight)
        row, column = np.unravel_index(np.argmin(errors), errors.shape)
        low, high = float(lows[row]), float(highs[column])
        lows, highs = (np.clip(best + spacing * _REFINED, 0.0, 1.0) for best in (low, high))
        spacing *= 2.0 / (len(_REFINED) - 1)
    return noise.low * low, noise.high * high


_METHODS: dict[RangeMethod, Callable[[Histogram, Noise, int], Bounds]] = {
    "minmax": _minmax,
    "percentile_99.9": _percentile(99.9),
    "percentile_99.99": _percentile(99.99),
    "percentile_99.999": _percentile(99.999),
    "entropy": _entropy,
    "mse": _mse,
}


def as_onnxruntime(ranges: Ranges) -> TensorsData:
    """`ranges` by tensor name, as onnxruntime's quantizers take them."""
    return TensorsData(
        CalibrationMethod.MinMax,
        {name: (np.float32(found.low), np.float32(found.high)) for name, found in ranges.items()},
    )
