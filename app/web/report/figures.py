"""The charts of a report, made of its JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.web.charts import Axis, Lines, Mark, Point, Scatter, Series

_MILLISECONDS = "milliseconds"


def latency(distribution: Mapping[str, Any], *, variant: str | None) -> Lines:
    """How many of the requests took how long, of the original and of the `variant` of that name, if there is one."""
    edges = distribution["edges_ms"]
    series = [_spread("original", distribution["original"], distribution["slower_original"], "plain")]
    if variant is not None and distribution.get("variant") is not None:
        series.append(_spread(variant, distribution["variant"], distribution["slower_variant"], "accent"))
    return Lines(
        x=Axis(label="latency", format=_MILLISECONDS),
        y=Axis(label="requests", format="percent"),
        at=edges,
        series=series,
        stepped=True,
        filled=True,
    )


def _spread(label: str, counts: Sequence[int], slower: int, tone: Any) -> Series:
    total = max(1, sum(counts) + slower)
    # The last edge ends the last bin.
    return Series(label=label, values=[*(count / total for count in counts), None], tone=tone)


def activation(found: Mapping[str, Any]) -> Lines:
    """The histogram of a tensor, and the range that its integers stand for."""
    first, width = found["first_edge"], found["bin_width"]
    shares = found["shares"]
    edges = [first + width * index for index in range(len(shares) + 1)]
    return Lines(
        x=Axis(label="value"),
        y=Axis(label="share", format="percent", log=True),
        at=edges,
        series=[Series(label="values", values=[*(share or None for share in shares), None], tone="second")],
        stepped=True,
        filled=True,
        marks=[
            Mark(at=found["low"], label=f"{found['low']:.4g}", tone="bad"),
            Mark(at=found["high"], label=f"{found['high']:.4g}", tone="bad"),
        ],
    )


def front(points: Sequence[Mapping[str, Any]]) -> Scatter | None:
    """The points of a search: how fast, how true, how large."""
    known = [point for point in points if point.get("latency_ms") is not None and point.get("sqnr_db") is not None]
    if not known:
        return None
    return Scatter(
        x=Axis(label="latency", format=_MILLISECONDS),
        y=Axis(label="SQNR in dB"),
        points=[_point(point) for point in known],
        frontier=_frontier([(point["latency_ms"], point["sqnr_db"]) for point in known]),
        frontier_label="Pareto front",
    )


def _point(point: Mapping[str, Any]) -> Point:
    layers = point["layers_in_fp32"]
    note = f"{point['speedup']:.2f}× as fast, {point['size_bytes'] / 1e6:.2f} MB"
    if point.get("accuracy") is not None:
        note += f", accuracy {point['accuracy']:.2%}"
    label = f"{layers} in FP32" + (", chosen" if point.get("chosen") else "")
    return Point(
        label=label,
        x=point["latency_ms"],
        y=point["sqnr_db"],
        size=point["size_bytes"],
        tone="good" if point.get("chosen") else "plain",
        note=note,
    )


def _frontier(pairs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (less is better, more is better), those that none is better than in both, by the first."""
    best: list[tuple[float, float]] = []
    for x, y in sorted(pairs, key=lambda pair: (pair[0], -pair[1])):
        if not best or y > best[-1][1]:
            best.append((x, y))
    return best


def losses(epochs: Sequence[Mapping[str, Any]], best: int | None) -> Lines | None:
    """What training came to, epoch by epoch; the first is the state before it."""
    if len(epochs) < 2:
        return None
    return Lines(
        x=Axis(label="epoch"),
        y=Axis(label="loss"),
        at=[epoch["epoch"] for epoch in epochs],
        series=[
            Series(label="training", values=[epoch["training_loss"] for epoch in epochs], tone="plain"),
            Series(label="validation", values=[epoch["validation_loss"] for epoch in epochs], tone="accent"),
        ],
        marks=[] if best is None else [Mark(at=best, label=f"best: {best}", tone="good")],
    )
