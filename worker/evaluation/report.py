"""What was measured, under which circumstances: everything a reader needs to judge it and do it again."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import onnx

from app import __version__
from app.contracts.figures import Figures, LayerFigures
from app.contracts.methods import OFFERED
from app.engines import Engine
from app.engines.cpu import Cpu
from worker.evaluation.alone import Alone
from worker.evaluation.fidelity import finite_or_none
from worker.evaluation.heldout import Comparison
from worker.evaluation.latency import Latencies, LatencyAlone, Percentiles
from worker.evaluation.metrics.accuracy import Accuracy
from worker.evaluation.split import Split


@dataclass(frozen=True)
class Circumstances:
    """What the figures depend on besides the two models."""

    method: str
    options: Mapping[str, Any]
    model_digest: str
    dataset_name: str | None
    dataset_digest: str | None
    split: Split | None
    cpu: Cpu
    engine: Engine
    intra_op_threads: int
    batch: int | None


def figures_of_original(comparison: Comparison | None, latencies: Latencies) -> Figures:
    accuracy = comparison.figure("accuracy").original if comparison else None
    return Figures(accuracy=accuracy, **_latency_fields(latencies.original_ms))


def figures_of_variant(comparison: Comparison | None, latencies: Latencies) -> Figures:
    measured = _fidelity_fields(comparison) if comparison else {}
    return Figures(
        **measured,
        **_latency_fields(latencies.variant_ms),
        speedup=latencies.speedup,
        speedup_low=latencies.low,
        speedup_high=latencies.high,
    )


def _fidelity_fields(comparison: Comparison) -> dict[str, float | None]:
    accuracy = comparison.figure("accuracy")
    before, after = accuracy.original, accuracy.variant
    return {
        "accuracy": after,
        "accuracy_ratio": after / before if before and after is not None else None,
        **{name: comparison.figure(name).variant for name in ("agreement", "cosine", "sqnr_db")},
    }


def figures_alone(alone: Alone | None, latency: LatencyAlone) -> Figures:
    """Of the original, beside no variant."""
    return Figures(accuracy=alone.accuracy if alone else None, **_latency_fields(latency.original_ms))


def _latency_fields(latency: Percentiles) -> dict[str, float]:
    return {f"latency_{name}_ms": value for name, value in asdict(latency).items()}


def build(
    circumstances: Circumstances,
    *,
    facts: Mapping[str, Any],
    notes: Sequence[str],
    original_bytes: int,
    variant_bytes: int,
    comparison: Comparison | None,
    latencies: Latencies,
    layers: Sequence[LayerFigures],
    gate: Mapping[str, Any],
    findings: Mapping[str, Any],
) -> dict[str, Any]:
    """The report as strict JSON: what was not measured, and what is infinite, is null.

    `gate` says what was decided, and `findings`, by section, what else was found out.
    """
    report = {
        **_surroundings(circumstances, facts),
        "size": {
            "original_bytes": original_bytes,
            "variant_bytes": variant_bytes,
            "ratio": variant_bytes / original_bytes,
        },
        "gate": gate,
        "quality": _quality(circumstances, comparison),
        "metrics": [metric.entry().model_dump() for metric in comparison.metrics] if comparison else [],
        "latency": {
            **latencies.as_json(),
            "confidence": 0.95,
            **_engine(circumstances),
            "request": "one sample, or one fixed batch of the model; original and variant in turn, in random order",
        },
        **findings,
        "layers": [layer.model_dump() for layer in layers],
        "notes": [*notes, *(comparison.notes if comparison else ())],
    }
    strict: dict[str, Any] = _strict(report)
    return strict


def build_alone(
    circumstances: Circumstances,
    *,
    notes: Sequence[str],
    size_bytes: int,
    alone: Alone | None,
    latency: LatencyAlone,
    batchable: bool | None,
    paddable: bool,
    confusion: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The report of the original, as strict JSON."""
    quality = None
    if alone is not None:
        quality = {"samples": alone.samples, "batch": circumstances.batch, "accuracy": alone.accuracy}
    report = {
        **_surroundings(circumstances, {}),
        "size": {"original_bytes": size_bytes},
        "quality": quality,
        "metrics": [metric.entry().model_dump() for metric in alone.metrics] if alone else [],
        "batchable": batchable,
        "paddable": paddable,
        "latency": {
            **latency.as_json(),
            **_engine(circumstances),
            "request": "one sample, or one fixed batch of the model",
        },
        "confusion": confusion,
        "notes": [*notes, *(alone.notes if alone else ())],
    }
    strict: dict[str, Any] = _strict(report)
    return strict


def _surroundings(circumstances: Circumstances, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "method": {"name": circumstances.method, "options": dict(circumstances.options), **facts},
        "model": {"digest": circumstances.model_digest},
        "dataset": _dataset(circumstances),
        "machine": circumstances.cpu.as_json(),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "onnx": onnx.__version__,
            # It optimizes and quantizes graphs for any engine.
            "onnxruntime": version("onnxruntime"),
            circumstances.engine.name: circumstances.engine.version,
            "octet": __version__,
            **({"torch": version("torch")} if OFFERED[circumstances.method].trains else {}),
        },
    }


def _engine(circumstances: Circumstances) -> dict[str, Any]:
    return {"intra_op_threads": circumstances.intra_op_threads, "engine": circumstances.engine.name}


def _dataset(circumstances: Circumstances) -> dict[str, Any] | None:
    if circumstances.split is None:
        return None
    return {
        "name": circumstances.dataset_name,
        "digest": circumstances.dataset_digest,
        "split": circumstances.split.as_json(),
    }


def _quality(circumstances: Circumstances, comparison: Comparison | None) -> dict[str, Any] | None:
    if comparison is None:
        return None
    accuracy = comparison.find(Accuracy)
    paired = accuracy.paired_test if accuracy is not None else None
    return {
        "samples": comparison.samples,
        "batch": circumstances.batch,
        "original_accuracy": comparison.figure("accuracy").original,
        **_fidelity_fields(comparison),
        "paired_test": paired.as_json() if paired is not None else None,
        "outputs": [_output(comparison, name) for name in comparison.outputs],
    }


def _output(comparison: Comparison, name: str) -> dict[str, Any]:
    """The figures of one output, of the metrics that tell outputs apart."""
    figures = comparison.figures.items()
    return {"name": name, **{metric: figure.by_output[name] for metric, figure in figures if name in figure.by_output}}


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, np.generic):
        return _strict(value.item())
    return finite_or_none(value) if isinstance(value, float) else value
