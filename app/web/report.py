"""The evaluation report as a page that needs nothing but itself."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.registry.evaluations import REJECTED
from app.web.rendering import environment

_SHOWN_APART = {"layers", "notes"}


def render_report(model: str, row: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """The page for one variant: `row` is its row of the comparison, `report` the whole report.

    Everything is escaped: names come from clients.
    """
    layers = [_layer(layer) for layer in report.get("layers", [])]
    return environment.get_template("report.html").render(
        model=model,
        row=row,
        verdict=verdict(row),
        layers=layers,
        notes=report.get("notes", []),
        sections={name: part for name, part in report.items() if name not in _SHOWN_APART and part not in (None, [])},
    )


def verdict(row: Mapping[str, Any]) -> str:
    """The variant in one sentence: what it costs and what it gives."""
    if row["method"] == "original":
        return "The model as it was uploaded, which all variants are measured against."
    parts = [f"{row['size_ratio']:.0%} of the original's size"]
    if row["speedup"] is not None:
        parts.append(_speed(row["speedup"], row["speedup_low"], row["speedup_high"]))
    parts.append(_quality(row))
    return f"{_gate(row)}{', '.join(parts[:-1])}; {parts[-1]}."


def _gate(row: Mapping[str, Any]) -> str:
    if row["verdict"] != REJECTED:
        return ""
    served = "; it serves all the same, by an explicit override" if row["overridden"] else " and does not serve"
    return f"Rejected{served}: {'; '.join(row['reasons'])}. It has "


def _speed(speedup: float, low: float, high: float) -> str:
    if low > 1:
        return f"{speedup:.2f}x as fast ({low:.2f} to {high:.2f}, 95% confidence)"
    if high < 1:
        return f"slower than the original, {speedup:.2f}x ({low:.2f} to {high:.2f}, 95% confidence)"
    return f"as fast as the original within noise ({low:.2f}x to {high:.2f}x, 95% confidence)"


def _quality(row: Mapping[str, Any]) -> str:
    if not row["samples"]:
        return "its answers were not compared, since no dataset was named"
    said: list[str] = []
    if row["accuracy"] is not None:
        said.append(f"accuracy {row['accuracy']:.2%}")
    if row["accuracy_ratio"] is not None:
        said.append(f"{row['accuracy_ratio']:.2%} of the original's")
    if row["agreement"] is not None:
        said.append(f"the same answer as the original on {row['agreement']:.2%} of {row['samples']} samples")
    elif row["cosine"] is not None:
        said.append(f"cosine to the original {row['cosine']:.4f} on {row['samples']} samples")
    return ", ".join(said) or "its answers could not be compared"


def _layer(layer: Mapping[str, Any]) -> dict[str, Any]:
    """The layer, with the share of its bar: 0 dB is empty and 60 dB full."""
    sqnr = layer["sqnr_db"]
    return dict(layer) | {"share": 100 if sqnr is None else max(0, min(100, round(sqnr / 0.6)))}


def is_table(value: Any) -> bool:
    """Whether a template should show `value` as a table of its own."""
    return isinstance(value, Mapping)


def is_rows(value: Any) -> bool:
    """Whether `value` is a list of records, to be shown as the rows of one table."""
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, Mapping) for item in value)


def shown(value: Any) -> str:
    """A leaf of the report as text."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(shown(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {shown(item)}" for key, item in value.items())
    return str(value)


environment.filters["shown"] = shown
environment.tests["table"] = is_table
environment.tests["rows"] = is_rows
