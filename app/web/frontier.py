"""Accuracy against latency against size: the chart of a comparison, and what no variant beats."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.registry.comparison import Row
from app.registry.models import ORIGINAL
from app.web import formats
from app.web.charts import Axis, Format, Point, Scatter, Tone


@dataclass(frozen=True)
class Quality:
    """What answers are judged by: the first of these that the variants have."""

    name: str
    label: str
    format: Format


_QUALITIES = (
    Quality("accuracy", "accuracy (top-1)", "percent"),
    Quality("agreement", "agreement with the original", "percent"),
    Quality("cosine", "cosine to the original", "number"),
)


@dataclass(frozen=True)
class Tradeoff:
    """The chart, and the labels of the variants that none beats in latency, quality and size at once."""

    chart: Scatter
    best: Sequence[str]
    quality: Quality


def tradeoff(rows: Sequence[Row]) -> Tradeoff | None:
    """Of the variants of one revision; None where fewer than two have a latency and a quality in common."""
    original_ms = next((row.latency_ms.p50 for row in rows if row.variant == ORIGINAL and row.latency_ms), None)
    for quality in _QUALITIES:
        placed = [placed for row in rows if (placed := _placed(row, quality, original_ms)) is not None]
        if len(placed) > 1:
            return _tradeoff(placed, quality)
    return None


@dataclass(frozen=True)
class _Placed:
    row: Row
    latency_ms: float
    quality: float

    def beats(self, other: "_Placed") -> bool:
        """At least as good in all three, and better in one."""
        mine = (-self.latency_ms, self.quality, -self.row.size_bytes)
        theirs = (-other.latency_ms, other.quality, -other.row.size_bytes)
        return mine != theirs and all(one >= two for one, two in zip(mine, theirs, strict=True))


def _placed(row: Row, quality: Quality, original_ms: float | None) -> _Placed | None:
    value: float | None = getattr(row, quality.name)
    if value is None and row.variant == ORIGINAL and quality.name != "accuracy":
        value = 1.0
    return None if value is None or row.latency_ms is None else _Placed(row, _latency_ms(row, original_ms), value)


def _latency_ms(row: Row, original_ms: float | None) -> float:
    """Comparable between variants: each job may have met a machine that was busier than the others did."""
    assert row.latency_ms is not None
    return original_ms / row.speedup if original_ms is not None and row.speedup else row.latency_ms.p50


def _tradeoff(placed: Sequence[_Placed], quality: Quality) -> Tradeoff:
    serving = [one for one in placed if one.row.may_serve]
    best = [one for one in serving if not any(other.beats(one) for other in serving)]
    chart = Scatter(
        x=Axis(label="latency p50", format="milliseconds"),
        y=Axis(label=quality.label, format=quality.format),
        points=[
            Point(
                label=one.row.variant,
                x=one.latency_ms,
                y=one.quality,
                size=one.row.size_bytes,
                tone=_tone(one),
                note=formats.size(one.row.size_bytes),
            )
            for one in placed
        ],
        frontier=_steps(serving),
        frontier_label="Pareto front",
    )
    return Tradeoff(chart, [one.row.variant for one in best], quality)


def _steps(serving: Sequence[_Placed]) -> list[tuple[float, float]]:
    """By rising latency, each point of higher quality than all that are faster."""
    steps: list[tuple[float, float]] = []
    for one in sorted(serving, key=lambda each: (each.latency_ms, -each.quality)):
        if not steps or one.quality > steps[-1][1]:
            steps.append((one.latency_ms, one.quality))
    return steps


def _tone(one: _Placed) -> Tone:
    if not one.row.may_serve:
        return "bad"
    return "plain" if one.row.variant == ORIGINAL else "accent"
