"""Charts as data: what is drawn, and the same as a table.

Static modules of the page draw them (`static/charts.js`); whoever cannot see them, or runs no scripts, reads the table.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, Field

#: What a mark stands for, which the style gives a colour.
Tone = Literal["plain", "accent", "second", "third", "good", "warn", "bad"]
Format = Literal["number", "percent", "megabytes", "milliseconds", "times", "time"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Axis(_Part):
    """`format` says how values of it are written; a `log` axis holds positive values only."""

    label: str
    format: Format = "number"
    log: bool = False

    def text(self, value: float | None) -> str:
        """The value as people read it; a dash for none."""
        return "–" if value is None else _FORMATS[self.format].format(value)


_FORMATS: dict[str, str] = {
    "number": "{:.4g}",
    "percent": "{:.2%}",
    "megabytes": "{:.2f} MB",
    "milliseconds": "{:.3g} ms",
    "times": "{:.2f}×",
    "time": "{:.0f} s",
}


class Table(_Part):
    """What a chart shows, as text: a row each."""

    columns: list[str]
    rows: list[list[str]]


class Point(_Part):
    """`size` is relative to the other points'; `note` is said of it beside its values; `href` is where it leads."""

    label: str
    x: float
    y: float
    size: Annotated[float, Field(ge=0)] = 1.0
    tone: Tone = "accent"
    note: str = ""
    x_low: float | None = None
    x_high: float | None = None


class Scatter(_Part):
    """Points with labels, and a frontier that no point is beyond: a line in steps through (x, y), by ascending x."""

    kind: Literal["scatter"] = "scatter"
    x: Axis
    y: Axis
    points: list[Point]
    frontier: list[tuple[float, float]] = []
    frontier_label: str = "frontier"

    def table(self) -> Table:
        on_it = set(self.frontier)
        columns = ["", self.x.label, self.y.label, "", *([self.frontier_label] if self.frontier else [])]
        rows = [
            [
                *(point.label, self.x.text(point.x), self.y.text(point.y), point.note),
                *([("yes" if (point.x, point.y) in on_it else "no")] if self.frontier else []),
            ]
            for point in self.points
        ]
        return Table(columns=columns, rows=rows)


class Series(_Part):
    """Values along the axis of the chart, None where there is none; `low` and `high` bound a band about them."""

    label: str
    values: list[float | None]
    low: list[float | None] | None = None
    high: list[float | None] | None = None
    tone: Tone = "accent"
    dashed: bool = False


class Lines(_Part):
    """Series over the same ascending `at`; `stepped`: a value holds until the next one."""

    kind: Literal["lines"] = "lines"
    x: Axis
    y: Axis
    at: list[float]
    series: list[Series]
    stepped: bool = False

    def table(self) -> Table:
        return _by_position([self.x.text(value) for value in self.at], self.x.label, self.y, self.series)


class Bars(_Part):
    """A bar for each label; of several series, side by side."""

    kind: Literal["bars"] = "bars"
    x: Axis
    y: Axis
    labels: list[str]
    series: list[Series]

    def table(self) -> Table:
        return _by_position(self.labels, self.x.label, self.y, self.series)


def _by_position(labels: Sequence[str], heading: str, y: Axis, series: Sequence[Series]) -> Table:
    columns, cells = [heading], [[label] for label in labels]
    for each in series:
        columns.append(each.label)
        for index, row in enumerate(cells):
            said = y.text(each.values[index])
            if each.low is not None and each.high is not None:
                said += f" ({y.text(each.low[index])} to {y.text(each.high[index])})"
            row.append(said)
    return Table(columns=columns, rows=cells)


class Interval(_Part):
    """An estimate and its bounds; a bound that is not known is None, and so is an estimate."""

    label: str
    low: float | None
    estimate: float | None
    high: float | None
    tone: Tone = "accent"


class Intervals(_Part):
    """Intervals below each other on one axis, with a line at `reference` to be held against."""

    kind: Literal["intervals"] = "intervals"
    x: Axis
    rows: list[Interval]
    reference: float | None = None
    reference_label: str = ""

    def table(self) -> Table:
        rows = [
            [row.label, self.x.text(row.low), self.x.text(row.estimate), self.x.text(row.high)] for row in self.rows
        ]
        return Table(columns=["", "low", self.x.label, "high"], rows=rows)


Chart = Scatter | Lines | Bars | Intervals


def as_json(chart: BaseModel) -> Markup:
    """The chart for a `<script type="application/json">`, where only `<` could end the element."""
    return Markup(chart.model_dump_json(exclude_defaults=False).replace("<", "\\u003c"))
