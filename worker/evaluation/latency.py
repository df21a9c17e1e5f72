"""Latency of single requests, original and variant measured in one run so that a noisy machine hits both alike."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines.engine import LoadedModel
from worker.evaluation.distribution import Distribution, distribution
from worker.samples import Feeds

_WARM_UP_RUNS = 3
_NOTICEABLY_SLOWER = 0.98
_FEWEST_PAIRS = 10
_FEW_PAIRS = 60
_MOST_PAIRS = 2000
_RESAMPLES = 2000
_CHUNK_ELEMENTS = 2**20


@dataclass(frozen=True)
class Percentiles:
    """Of the latencies of single requests, in milliseconds."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: NDArray[np.float64]) -> "Percentiles":
        return cls(*(float(value) for value in np.percentile(seconds * 1e3, (50, 95, 99))))


@dataclass(frozen=True)
class Latencies:
    """`speedup` is the ratio of the medians, original over variant, `low`..`high` its 95% confidence interval."""

    original_ms: Percentiles
    variant_ms: Percentiles
    speedup: float
    low: float
    high: float
    pairs: int
    distribution: Distribution | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(
    original: LoadedModel,
    variant: LoadedModel,
    requests: Sequence[Feeds],
    *,
    seed: int,
    seconds: float = 3.0,
    progress: Callable[[float], None],
) -> Latencies:
    """Answer `requests` in turn by both models, which goes first being drawn for each pair.

    Goes on for `seconds`, but for at least 10 pairs, and 60 if these fit in three times that; at most 2000.
    """
    for request in requests[:_WARM_UP_RUNS]:
        original.run(request)
        variant.run(request)
    original.run(requests[0])
    variant.run(requests[0])
    random = np.random.default_rng(seed)
    pairs: list[tuple[float, float]] = []
    start = time.perf_counter()
    while _goes_on(len(pairs), time.perf_counter() - start, seconds):
        request = requests[len(pairs) % len(requests)]
        if random.random() < 0.5:
            of_original = _timed(original, request)
            of_variant = _timed(variant, request)
        else:
            of_variant = _timed(variant, request)
            of_original = _timed(original, request)
        pairs.append((of_original, of_variant))
        if len(pairs) % 16 == 0:
            progress(min(1.0, max((time.perf_counter() - start) / seconds, len(pairs) / _MOST_PAIRS)))
    table = np.array(pairs)
    low, high = speedup_interval(table, seed=seed)
    speedup = float(np.median(table[:, 0]) / np.median(table[:, 1]))
    before, after = table[:, 0], table[:, 1]
    return Latencies(
        Percentiles.of(before), Percentiles.of(after), speedup, low, high, len(pairs), distribution(before, after)
    )


@dataclass(frozen=True)
class LatencyAlone:
    """Of one model, measured beside no other."""

    original_ms: Percentiles
    requests: int
    distribution: Distribution | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure_alone(
    model: LoadedModel, requests: Sequence[Feeds], *, seconds: float = 3.0, progress: Callable[[float], None]
) -> LatencyAlone:
    """Answer `requests` in turn, as many and for as long as `measure` does pairs."""
    for request in (*requests[:_WARM_UP_RUNS], requests[0]):
        model.run(request)
    times: list[float] = []
    start = time.perf_counter()
    while _goes_on(len(times), time.perf_counter() - start, seconds):
        times.append(_timed(model, requests[len(times) % len(requests)]))
        if len(times) % 16 == 0:
            progress(min(1.0, max((time.perf_counter() - start) / seconds, len(times) / _MOST_PAIRS)))
    seconds_taken = np.array(times)
    return LatencyAlone(Percentiles.of(seconds_taken), len(times), distribution(seconds_taken))


def _goes_on(pairs: int, elapsed: float, seconds: float) -> bool:
    if pairs >= _MOST_PAIRS:
        return False
    return elapsed < seconds or pairs < _FEWEST_PAIRS or (pairs < _FEW_PAIRS and elapsed < 3 * seconds)


def _timed(model: LoadedModel, request: Feeds) -> float:
    start = time.perf_counter()
    model.run(request)
    return time.perf_counter() - start


def is_slower(latencies: Latencies) -> bool:
    """Whether the variant is slower than the original, beyond noise and by more than anyone would notice."""
    return latencies.high < 1.0 and latencies.speedup < _NOTICEABLY_SLOWER


def speedup_interval(pairs: NDArray[np.float64], *, seed: int, resamples: int = _RESAMPLES) -> tuple[float, float]:
    """95% confidence interval of the ratio of medians, column 0 over column 1 of `pairs` `(pairs, 2)`.

    The percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13), resampling
    pairs, so that what disturbed both runs of one stays common to them.
    """
    random = np.random.default_rng(seed)
    count = len(pairs)
    ratios = []
    chunk = max(1, _CHUNK_ELEMENTS // count)
    for start in range(0, resamples, chunk):
        drawn = random.integers(0, count, (min(chunk, resamples - start), count))
        medians = np.median(pairs[drawn], axis=1)
        ratios.append(medians[:, 0] / medians[:, 1])
    low, high = np.percentile(np.concatenate(ratios), (2.5, 97.5))
    return float(low), float(high)
