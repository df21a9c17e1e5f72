"""Experiments for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from app.cli.tables import number

Row = Mapping[str, Any]

_STATE_STYLES = {"running": "green", "paused": "yellow", "rolled_back": "red", "promoted": "green"}
_WORD_STYLES = {"better": "green", "not_worse": "green", "worse": "red"}


def listing(rows: Sequence[Row]) -> Table:
    """Experiments, one a row."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("experiment", no_wrap=True, min_width=32)
    for heading in ("name", "state", "arms"):
        table.add_column(heading, overflow="fold")
    table.add_column("coverage", justify="right")
    for row in rows:
        arms = ", ".join(f"{arm['variant']} {arm['share']:.1%}" for arm in row["arms"])
        table.add_row(row["id"] or "(dry run)", Text(row["name"]), _state(row), Text(arms), f"{row['coverage']:.0%}")
    return table


def status(view: Row, width: int) -> RenderableType:
    """What is known of an experiment: its arms, what may be said of them, and its shadows. Wide: more quantiles."""
    results = view["results"]
    head = Text.assemble((view["name"], "bold"), f" of {view['model']}: ", _state(view), f", {_coverage(view)}")
    parts: list[RenderableType] = [head, _arms(results["arms"], wide=width >= 100)]
    said = [arm["verdict"]["sentence"] for arm in results["arms"] if arm["verdict"]]
    parts += [Text(sentence) for sentence in said]
    parts += [Text(_paired(shadow)) for shadow in results["shadows"] if shadow["pairs"]]
    warning = results["sample_ratio"]["warning"]
    if warning:
        parts.append(Text(warning, style="yellow"))
    if results["multiple_exposure_rate"]:
        parts.append(Text(f"{results['multiple_exposure_rate']:.2%} of the units were in more than one arm."))
    return Group(*parts, Text(results["note"], style="dim"))


def _state(row: Row) -> Text:
    return Text(row["state"].replace("_", " "), style=_STATE_STYLES.get(row["state"], ""))


def _coverage(view: Row) -> str:
    text = f"{view['coverage']:.3g} of all units"
    return text if view["ramp"] is None else f"{text}, step {view['step']} of {len(view['ramp']['steps'])}"


def _arms(rows: Sequence[Row], *, wide: bool) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("arm", no_wrap=True)
    quantiles = ["p50", "p95", "p99"] if wide else ["p50", "p95"]
    names = sorted({name for row in rows for name in row["outcomes"]})
    for heading in ("units", "requests", "errors", *(f"{each} ms" for each in quantiles), *names):
        table.add_column(heading, justify="right", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    for row in rows:
        latency = row["latency_ms"] or {}
        table.add_row(
            Text(row["variant"] + (" *" if row["control"] else "") + (" (stopped)" if row["stopped"] else "")),
            str(row["units"]),
            str(row["requests"]),
            str(row["errors"]),
            *(number(latency.get(each, {}).get("estimate"), 2) for each in quantiles),
            *(number(row["outcomes"].get(name, {}).get("mean", {}).get("estimate"), 4) for name in names),
            _word(row),
        )
    return table


def _word(row: Row) -> Text:
    if row["verdict"] is None:
        return Text("control", style="dim")
    word = row["verdict"]["word"]
    return Text(word.replace("_", " "), style=_WORD_STYLES.get(word, ""))


def _paired(shadow: Row) -> str:
    """Of a shadow, what its pairs tell, and what the same would take by the split."""
    clauses = [f"{shadow['pairs']} pairs"]
    if shadow["disagreement"]:
        rate = shadow["disagreement"]
        clauses.append(f"disagrees on {rate['estimate']:.2%} [{rate['low']:.2%}, {rate['high']:.2%}]")
    right = shadow["right_answers"]
    if right is not None:
        clauses.append(
            f"alone right on {right['variant_only']}, alone wrong on {right['control_only']}"
            f" of {right['labelled']} labelled (p = {right['anytime_p_value']:.2g} at any time)"
        )
    speedup = shadow["speedup"]
    if speedup["low"] is not None:
        clauses.append(f"{speedup['estimate']:.2f}x as fast [{speedup['low']:.2f}, {speedup['high']:.2f}]")
    if shadow["cosine"] is not None:
        clauses.append(f"cosine {shadow['cosine']:.4f}")
    clauses += [f"{each['times']:.0f}x less traffic to find {each['finds']}" for each in shadow["savings"]]
    return f"shadow {shadow['variant']}: {', '.join(clauses)}"
