"""An evaluation report, for a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from app.cli.tables import figure_of, metrics_of, number, percent, size
from app.contracts.figures import MetricFigures, further_metrics
from app.web.formats import figure

Json = Mapping[str, Any]

#: From here on, what was done to a layer has room.
_WIDE = 100


def summary(found: Json, layers: int, width: int) -> Iterator[RenderableType]:
    """The verdict, the figures, notes, and the `layers` noisiest layers of what the API answered."""
    from app.web.report import verdict

    row, report = found["variant"], found["report"]
    yield Text.assemble((f"{found['model']} · {row['variant']}", "bold"), "\n", verdict(row), "\n")
    yield _figures(row)
    yield Text("\n".join(["", *(f"· {note}" for note in report.get("notes", []))]), style="yellow")
    measured = report.get("layers", [])
    if measured and layers:
        yield _layers(measured[:layers], len(measured), width)


def _figures(row: Json) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column()
    latency = row["latency_ms"] or {}
    for name, value in (
        ("size", f"{size(row['size_bytes'])}, {row['size_ratio']:.0%} of the original's"),
        ("accuracy", _beside(percent(row["accuracy"]), row["accuracy_ratio"], "of the original's")),
        ("agreement", percent(row["agreement"])),
        ("cosine", f"{number(row['cosine'], 5)}, SQNR {number(row['sqnr_db'], 1)} dB"),
        *((metric.label, _further(metric, row)) for metric in further_metrics(metrics_of(row))),
        ("latency", ", ".join(f"{which} {number(latency.get(which), 3)} ms" for which in ("p50", "p95", "p99"))),
        ("speedup", _speedup(row)),
        ("measured on", f"{row['samples']} held-out samples of '{row['dataset']}'" if row["samples"] else "no dataset"),
    ):
        table.add_row(name, Text(value))
    return table


def _further(metric: MetricFigures, row: Json) -> str:
    """The figure of a metric that has no line of its own, and its interval."""
    shown = figure_of(metric, row)
    if metric.low is None or metric.high is None:
        return shown
    return f"{shown} (95%: {figure(metric.low, metric.unit)} to {figure(metric.high, metric.unit)})"


def _beside(value: str, ratio: float | None, meaning: str) -> str:
    return value if ratio is None else f"{value}, {ratio:.2%} {meaning}"


def _speedup(row: Json) -> str:
    if row["speedup"] is None:
        return "–"
    return f"{row['speedup']:.2f}x ({row['speedup_low']:.2f} to {row['speedup_high']:.2f}, 95% confidence)"


def _layers(shown: Sequence[Json], of: int, width: int) -> Table:
    repaired = width >= _WIDE and any(layer.get("repairs") for layer in shown)
    title = f"the {len(shown)} noisiest of {of} layers" if len(shown) < of else "layers, the noisiest first"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("layer", overflow="fold")
    table.add_column("operator", no_wrap=True)
    table.add_column("SQNR dB", justify="right", no_wrap=True)
    if repaired:
        table.add_column("what was done to it", overflow="fold")
    for layer in shown:
        noise = "exact" if layer["sqnr_db"] is None else number(layer["sqnr_db"], 1)
        done = [Text("; ".join(layer.get("repairs", [])))] if repaired else []
        table.add_row(Text(layer["name"]), layer["operator"], noise, *done)
    return table
