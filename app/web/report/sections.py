"""What a report holds, section by section: only those of which it tells something.

Reports of older versions lack parts; parts that no section knows are shown as they are.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.contracts.figures import MetricFigures
from app.registry.models import ORIGINAL
from app.web.report import figures
from app.web.report.circumstances import circumstances
from app.web.report.repeat import commands

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Section:
    """One part of the page: `template` shows `values`. `id` is its anchor."""

    id: str
    title: str
    template: str
    values: Json = field(default_factory=dict)


#: Parts that have a section of their own.
_KNOWN = {
    "activations", "answers", "batchable", "calibration_coverage", "confusion", "dataset", "epochs", "gate", "latency",
    "layers", "machine", "method", "metrics", "model", "notes", "operators", "paddable", "points", "portability",
    "precision", "quality", "search", "size", "training", "versions",
}  # fmt: skip

# A bar of a layer is empty at 0 dB, and full at this.
_FULL_DB = 60.0

# Of a long table, so many rows are seen before it is unfolded.
_SHOWN_ROWS, _SHOWN_SAMPLES = 15, 12

# Of a confusion matrix, so many shades.
_SHADES = 9


def sections(model: str, row: Json, report: Json) -> list[Section]:
    """Those that the report of this `row` of the comparison has anything for, in the order of the page."""
    made = (build(row, report) for build in _BUILDERS)
    found = [section for section in made if section is not None]
    return [*found, *_others(report), _repeat(model, row, report)]


def _notes(row: Json, report: Json) -> Section | None:
    notes = report.get("notes") or []
    return Section("notes", "Worth knowing", "notes", {"notes": notes}) if notes else None


def _answers(row: Json, report: Json) -> Section | None:
    answers = report.get("answers")
    if not answers:
        return None
    title = "Whose answer changed" if answers["kind"] == "classes" else "The samples that changed most"
    return Section(
        "answers",
        title,
        "answers",
        {
            **answers,
            "test": (report.get("quality") or {}).get("paired_test"),
            "shown": _SHOWN_SAMPLES,
            "samples": [_with_all(sample) for sample in answers["samples"]],
        },
    )


def _with_all(sample: Json) -> Json:
    absent = dict.fromkeys(("label", "image", "original_probability", "variant_probability", "margin", "cosine"))
    return {**absent, **sample}


def _confusion(row: Json, report: Json) -> Section | None:
    found = report.get("confusion")
    if not found:
        return None
    title = "Which classes are taken for which" if found["rows"] == "label" else "Which answers became which"
    values: dict[str, Any] = {"of_labels": found["rows"] == "label", "classes": None, "pairs": found.get("pairs")}
    if "classes" in found:
        answers = found["original"] if found["variant"] is None else found["variant"]
        values["classes"] = found["classes"]
        values["rows"] = [
            [_cell(row, column, answers, found["original"]) for column in range(len(answers))]
            for row in range(len(answers))
        ]
    return Section("confusion", title, "confusion", values)


def _cell(row: int, column: int, answers: Sequence[Sequence[int]], original: Sequence[Sequence[int]]) -> Json:
    count, total = answers[row][column], max(1, sum(answers[row]))
    shade = -(-_SHADES * count // total)
    tone = "right" if row == column else "wrong"
    return {"count": count, "change": count - original[row][column], "shade": f"{tone} shade-{shade}" if count else ""}


def _latency(row: Json, report: Json) -> Section | None:
    latency = report.get("latency")
    if not latency:
        return None
    name = None if row["method"] == ORIGINAL else row["variant"]
    spread = latency.get("distribution")
    measured = [("original", latency.get("original_ms")), (name, latency.get("variant_ms") if name else None)]
    return Section(
        "latency",
        "Latency",
        "latency",
        {
            "rows": [(label, of) for label, of in measured if of],
            "chart": figures.latency(spread, variant=name) if spread else None,
            "slower": _slower(spread, name) if spread else [],
            "speedup": latency.get("speedup") if name else None,
            "low": latency.get("low"),
            "high": latency.get("high"),
            "paired": "pairs" in latency,
            "requests": latency.get("pairs", latency.get("requests")),
            "threads": latency.get("intra_op_threads"),
            "operators": report.get("operators") or [],
        },
    )


def _slower(spread: Json, name: str | None) -> list[tuple[str, int]]:
    counted = [("original", spread["slower_original"]), (name, spread.get("slower_variant"))]
    return [(label, count) for label, count in counted if label and count]


def _metrics(row: Json, report: Json) -> Section | None:
    metrics = [MetricFigures.model_validate(metric) for metric in report.get("metrics") or []]
    return Section("metrics", "Metrics", "metrics", {"metrics": metrics}) if metrics else None


def _layers(row: Json, report: Json) -> Section | None:
    layers = report.get("layers") or []
    if not layers:
        return None
    rows = [_layer(layer) for layer in layers]
    values = {
        "layers": rows,
        "shown": _SHOWN_ROWS,
        "detailed": any(layer["types"] for layer in rows),
        "repairs": _repairs(report),
    }
    return Section("layers", "Layers, the noisiest first", "layers", values)


def _repairs(report: Json) -> Sequence[Json]:
    method = report.get("method")
    return (method.get("repairs") or []) if isinstance(method, Mapping) else []


def _layer(layer: Json) -> Json:
    """The layer as it is shown; `share` is that of its bar."""
    sqnr, shape = layer["sqnr_db"], layer.get("shape")
    return {
        "name": layer["name"],
        "operator": layer["operator"],
        "sqnr_db": sqnr,
        "share": 1.0 if sqnr is None else max(0.0, min(1.0, sqnr / _FULL_DB)),
        "shape": " × ".join(str(axis) for axis in shape) if shape else None,
        "types": _types(layer),
        "is_integer": "int" in f"{layer.get('weights') or layer.get('activations')}",
        "repairs": layer.get("repairs") or [],
    }


def _types(layer: Json) -> str | None:
    """What is multiplied by what: uint8 × int8."""
    types = [layer.get(part) for part in ("activations", "weights")]
    return " × ".join(one for one in types if one) or None


def _activations(row: Json, report: Json) -> Section | None:
    found = report.get("activations") or []
    shown = [{**one, "chart": figures.activation(one)} for one in found]
    values = {"activations": shown}
    return (
        Section("activations", "Activations and the ranges chosen for them", "activations", values) if found else None
    )


def _coverage(row: Json, report: Json) -> Section | None:
    found = report.get("calibration_coverage")
    return Section("coverage", "What calibration had seen", "coverage", found) if found else None


def _search(row: Json, report: Json) -> Section | None:
    precision, points = report.get("precision") or [], report.get("points") or []
    if not precision and not points:
        return None
    values = {
        "front": figures.front(points),
        "precision": _by_sensitivity(precision),
        "shown": _SHOWN_ROWS,
        "search": report.get("search"),
        "kept": sum(layer["precision"] != "int8" for layer in precision),
    }
    return Section("search", "Which layers are integers", "search", values)


def _by_sensitivity(precision: Sequence[Json]) -> list[Json]:
    """Each layer with the error that it alone makes, as a share of the outputs' signal; the most harmful first."""
    errors = [None if row.get("sqnr_db") is None else 10 ** (-row["sqnr_db"] / 20) for row in precision]
    most = max((error for error in errors if error is not None), default=1.0)
    rows = [
        {**row, "error": error, "share": 0.0 if error is None else error / most}
        for row, error in zip(precision, errors, strict=True)
    ]
    return sorted(rows, key=lambda row: -row["share"])


def _training(row: Json, report: Json) -> Section | None:
    training, epochs = report.get("training"), report.get("epochs") or []
    if not training and not epochs:
        return None
    best = (training or {}).get("best_epoch")
    values = {"training": training, "chart": figures.losses(epochs, best), "epochs": epochs}
    return Section("training", "Training", "training", values)


def _budget(row: Json, report: Json) -> Section | None:
    gate = report.get("gate")
    if not isinstance(gate, Mapping) or not isinstance(gate.get("budget"), Mapping):
        return None
    return Section("budget", "Budget", "budget", {**gate, "reasons": gate.get("reasons") or []})


def _batches(row: Json, report: Json) -> Section | None:
    gate = report.get("gate")
    # A report of the original has no gate.
    told = gate if isinstance(gate, Mapping) else report
    if "batchable" not in told:
        return None
    values = {"batchable": told["batchable"], "paddable": told.get("paddable", False)}
    return Section("batches", "In batches", "batches", values)


def _portability(row: Json, report: Json) -> Section | None:
    found = report.get("portability")
    return Section("portability", "On CPUs without VNNI", "portability", found) if found else None


def _repeat(model: str, row: Json, report: Json) -> Section:
    values = {"facts": circumstances(report), "commands": commands(model, row, report)}
    return Section("repeat", "To measure it again", "repeat", values)


def _others(report: Json) -> Iterator[Section]:
    for number, (name, part) in enumerate(report.items()):
        if name not in _KNOWN and part not in (None, [], {}):
            yield Section(f"other-{number}", name.replace("_", " ").capitalize(), "other", {"part": part, "name": name})


_BUILDERS: tuple[Callable[[Json, Json], Section | None], ...] = (
    _notes, _metrics, _answers, _confusion, _latency, _layers, _activations, _coverage, _search, _training, _budget,
    _batches, _portability,
)  # fmt: skip
