"""Tables for a terminal."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from app.cli.marks import Marks
from app.contracts.figures import MetricFigures, further_metrics
from app.web.formats import figure

Row = dict[str, Any]

#: Signs behind a variant's name.
_DEFAULT, _RECOMMENDED, _UNBEATEN = "*", "★", "◆"

_STATE_STYLES = {"succeeded": "green", "failed": "red", "running": "yellow", "cancelled": "dim"}


#: Columns, and those that go first where the terminal is too narrow for all.
_COLUMNS = (
    *("revision", "version", "size", "", "accuracy", "agreement", "p50", "p95", "speedup"),
    *("95% interval", "cosine", "SQNR dB", "verdict"),
)
_FIRST_TO_GO = ("SQNR dB", "cosine", "version", "95% interval", "verdict", "p95", "", "agreement", "size")
_BOUNDLESS = Console(width=10_000)
_UNMARKED = Marks()


def comparison(model: str, rows: Sequence[Row], width: int, marks: Marks = _UNMARKED) -> RenderableType:
    """The variants of `model`, one a row; what was not measured is a dash.

    A line below names the columns that a terminal of `width` has no room for.
    """
    columns = [each for each in _COLUMNS if each != "revision" or len({row["revision"] for row in rows}) > 1]
    further = list(dict.fromkeys(metric.label for row in rows for metric in further_metrics(metrics_of(row))))
    columns[columns.index("verdict") : columns.index("verdict")] = further
    wanted = tuple(columns)
    first_to_go = iter((*_FIRST_TO_GO[:2], *reversed(further), *_FIRST_TO_GO[2:]))
    while True:
        table = _table(model, rows, columns, marks)
        narrower = next(first_to_go, None)
        if narrower is None or _BOUNDLESS.measure(table).maximum <= width:
            break
        columns.remove(narrower)
    left_out = [heading or "size ratio" for heading in wanted if heading not in columns]
    return Group(table, _left_out(model, left_out)) if left_out else table


def _left_out(model: str, headings: Sequence[str]) -> Text:
    words = (
        f"left out for lack of width: {', '.join(headings)}; a wider terminal or octet compare {model} --json shows all"
    )
    return Text(words, style="dim")


def _table(model: str, rows: Sequence[Row], columns: Sequence[str], marks: Marks) -> Table:
    table = Table(title=f"{model}: variants", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("variant", no_wrap=True)
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        cells = {"revision": str(row["revision"]), "version": str(row["version"]), **_figures(row)}
        cells |= {metric.label: figure_of(metric, row) for metric in further_metrics(metrics_of(row))}
        table.add_row(_name(row, marks), *(cells.get(heading, "–") for heading in columns))
    return table


def metrics_of(row: Mapping[str, Any]) -> list[MetricFigures]:
    """All evaluation metrics of a row; none where an older server answered."""
    return [MetricFigures.model_validate(metric) for metric in row.get("metrics", [])]


def figure_of(metric: MetricFigures, row: Mapping[str, Any]) -> str:
    """The figure of the variant that `row` is about."""
    return figure(metric.original if row["variant"] == "original" else metric.variant, metric.unit)


def _name(row: Row, marks: Marks) -> Text:
    said = (
        (_DEFAULT, row["default"]),
        (_RECOMMENDED, row["version"] in marks.recommended),
        (_UNBEATEN, row["version"] in marks.unbeaten),
    )
    signs = "".join(sign for sign, holds in said if holds)
    return Text(f"{row['variant']} {signs}".rstrip(), style="bold" if row["default"] else "")


def _figures(row: Row) -> dict[str, str]:
    latency = row["latency_ms"] or {}
    interval = "–" if row["speedup"] is None else f"{row['speedup_low']:.2f}–{row['speedup_high']:.2f}"
    return {
        "size": size(row["size_bytes"]),
        "": f"{row['size_ratio']:.0%}",
        "accuracy": percent(row["accuracy"]),
        "agreement": percent(row["agreement"]),
        "p50": number(latency.get("p50"), 3),
        "p95": number(latency.get("p95"), 3),
        "speedup": "–" if row["speedup"] is None else f"{row['speedup']:.2f}x",
        "95% interval": interval,
        "cosine": number(row["cosine"], 4),
        "SQNR dB": number(row["sqnr_db"], 1),
        "verdict": _verdict(row),
    }


def _verdict(row: Row) -> str:
    return "overridden" if row["overridden"] else row["verdict"] or "–"


def rejections(rows: Sequence[Row]) -> Text:
    """Why variants were rejected, a line each."""
    lines = [
        f"{row['variant']} {'serves by override' if row['overridden'] else 'was rejected'}: {'; '.join(row['reasons'])}"
        for row in rows
        if row["reasons"]
    ]
    return Text("\n".join(lines), style="yellow")


def footnote(rows: Sequence[Row], marks: Marks = _UNMARKED) -> str:
    """What the signs mean, and what the figures were measured on."""
    signs = f"{_DEFAULT} answers when no variant is named."
    signs += f" {_RECOMMENDED} is recommended." if marks.recommended else ""
    signs += (
        f" {_UNBEATEN}: no other is as good in latency, quality and size, and better in one." if marks.unbeaten else ""
    )
    measured = [row for row in rows if row["samples"]]
    if not measured:
        return f"{signs} No dataset: accuracy and agreement were not measured."
    samples, dataset = measured[-1]["samples"], measured[-1]["dataset"]
    return (
        f"{signs} Accuracy, and agreement with the original's top-1, on {samples} samples"
        f" of '{dataset}' that calibration never saw. Latency of one sample in ms, original and variant in turn, on the"
        " worker's machine."
    )


def jobs(rows: Sequence[Row]) -> Table:
    """Jobs, one a row."""
    # Gaps as narrow as this let a row of names of eight letters fit into 80 columns.
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    # An id is there to be copied, so it is never cut short.
    table.add_column("job", no_wrap=True, min_width=32)
    for heading in ("model", "variant"):
        table.add_column(heading, overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("stage", no_wrap=True, justify="right")
    for row in rows:
        state = Text(row["state"], style=_STATE_STYLES.get(row["state"], ""))
        cells = [Text(str(row[name])) for name in ("id", "model", "variant")]
        stage = f"{row['stage']} " if row["state"] == "running" else ""
        table.add_row(*cells, state, f"{stage}{row['progress']:.0%}")
    return table


def failures(rows: Sequence[Row]) -> Text:
    """Why jobs failed, a line each."""
    lines = [f"{row['variant']} of {row['model']} failed: {row['error']}" for row in rows if row["error"]]
    return Text("\n".join(lines), style="red")


def keys(rows: Sequence[Row]) -> Table:
    """API keys, one a row; a dash is what does not bound them."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("id", no_wrap=True, min_width=12)
    for heading in ("name", "scope", "models", "state"):
        table.add_column(heading, overflow="fold")
    for heading in ("rate", "uploads a day", "expires", "last used"):
        table.add_column(heading, justify="right")
    for row in rows:
        cells = [Text(str(row[name])) for name in ("id", "name", "scope")]
        state = Text(row["state"], style="green" if row["state"] == "active" else "dim")
        rate = "–" if row["rate"] is None else f"{row['rate']:g}/s"
        quota = "–" if row["upload_quota_bytes"] is None else size(row["upload_quota_bytes"])
        table.add_row(
            *cells,
            Text(row["models"] or "–"),
            state,
            rate,
            quota,
            _minute(row["expires_at"]),
            _minute(row["last_used_at"]),
        )
    return table


def audit(rows: Sequence[Row]) -> Table:
    """Who changed what, one change a row."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("at (UTC)", "by", "", "what", "request"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        who = row["by"] if row["key_id"] is None else f"{row['by']} ({row['key_id']})"
        verb = Text(row["verb"] if row["outcome"] == "done" else f"{row['outcome']}: {row['verb']}")
        what = Text(f"{row['noun']} {row['name']}")
        table.add_row(f"{row['at']:%Y-%m-%d %H:%M:%S}", Text(who), verb, what, Text(row["request_id"] or ""))
    return table


def _minute(at: datetime | None) -> str:
    return "–" if at is None else f"{at:%Y-%m-%d %H:%M}"


def size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.2f} MB"


def number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"
