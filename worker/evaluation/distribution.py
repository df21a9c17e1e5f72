"""How long requests took, all of them, in few numbers: a histogram whose bins widen with the latency."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BINS = 40
# Beyond this percentile of the slower model, or this multiple of its median, lie requests that something else held up.
_TAIL_PERCENT, _TAIL_MEDIANS = 99.0, 4.0
_DIGITS = 5


@dataclass(frozen=True)
class Distribution:
    """Bin i holds the requests that took from `edges_ms[i]` up to but without `edges_ms[i + 1]`.

    Each edge is by the same factor above the one before. `original` and `variant` count requests, the latter None for
    a model measured alone; `slower_original` and `slower_variant` those beyond the last edge.
    """

    edges_ms: tuple[float, ...]
    original: tuple[int, ...]
    slower_original: int
    variant: tuple[int, ...] | None = None
    slower_variant: int | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def distribution(original: NDArray[np.float64], variant: NDArray[np.float64] | None = None) -> Distribution:
    """Of latencies in seconds, `(requests,)` each, at least one and all above zero."""
    both = [original] if variant is None else [original, variant]
    edges = _edges(min(float(of.min()) for of in both), max(_usual(of) for of in both))
    counts, slower = _counted(original, edges)
    if variant is None:
        return Distribution(edges, counts, slower)
    return Distribution(edges, counts, slower, *_counted(variant, edges))


def _usual(seconds: NDArray[np.float64]) -> float:
    """What a request takes at most, but for a few."""
    median, tail = np.percentile(seconds, (50.0, _TAIL_PERCENT))
    return float(min(tail, _TAIL_MEDIANS * median))


def _edges(fastest: float, slowest: float) -> tuple[float, ...]:
    """In milliseconds, rounded as they are written down, so that what is counted is what is read."""
    low = fastest * 1e3
    high = max(slowest * 1e3, low * 1.01) * (1.0 + 10.0 ** (1 - _DIGITS))
    return tuple(float(f"{edge:.{_DIGITS}g}") for edge in np.geomspace(low, high, _BINS + 1))


def _counted(seconds: NDArray[np.float64], edges: tuple[float, ...]) -> tuple[tuple[int, ...], int]:
    # The first edge may be rounded to just above the fastest request.
    bins = np.maximum(np.searchsorted(edges, seconds * 1e3, side="right") - 1, 0)
    counts = np.bincount(bins, minlength=len(edges))
    return tuple(int(count) for count in counts[: len(edges) - 1]), int(counts[len(edges) - 1 :].sum())
