"""Reports as workers write them, small."""

from typing import Any

ROW: dict[str, Any] = {
    "variant": "int8",
    "revision": 1,
    "method": "int8",
    "size_bytes": 250_000,
    "size_ratio": 0.25,
    "accuracy": 0.91,
    "accuracy_ratio": 0.99,
    "agreement": 0.97,
    "cosine": 0.999,
    "sqnr_db": 31.0,
    "latency_ms": {"p50": 1.0, "p95": 2.0, "p99": 3.0},
    "speedup": 2.0,
    "speedup_low": 1.9,
    "speedup_high": 2.1,
    "samples": 200,
    "verdict": "accepted",
    "reasons": [],
    "overridden": False,
    "batchable": True,
    "paddable": False,
    "options": {"seed": 7},
}
UNMEASURED = dict.fromkeys(("accuracy", "accuracy_ratio", "agreement", "cosine", "sqnr_db", "latency_ms"))

LAYERS: list[dict[str, Any]] = [
    {"name": "conv1", "operator": "Conv", "sqnr_db": -3.25},
    {"name": "conv2", "operator": "Conv", "sqnr_db": 30.0},
    {"name": "fc", "operator": "Gemm", "sqnr_db": 75.0},
    {"name": "relu", "operator": "Relu", "sqnr_db": None},
]

_POINT = {
    "layers_in_fp32": 0, "accuracy_drop": 0.0, "accuracy": 0.9, "agreement": 0.97, "sqnr_db": 30.0, "latency_ms": 1.0,
    "speedup": 2.0, "size_bytes": 250_000, "chosen": True,
}  # fmt: skip


def full(name: str = "conv1") -> dict[str, Any]:
    """A report with every section that there is; `name` wherever a name is."""
    return {
        "method": {
            "name": "mixed",
            "options": {"seed": 7, "calibration": name, "point": None},
            "types": {"activation": "uint8", "reason": name},
            "repairs": [
                {"repair": "smoothing", "change": name, "sqnr_db_before": 20.0, "sqnr_db_after": 25.5, "kept": True},
                {"repair": "exclusion", "change": name, "sqnr_db_before": None, "sqnr_db_after": None, "kept": False},
            ],
        },
        "model": {"digest": "5" * 64},
        "dataset": {
            "name": name,
            "digest": "6" * 64,
            "split": {
                "seed": 7,
                "samples": 96,
                "calibration_samples": 48,
                "calibration_digest": "7" * 64,
                "evaluation_samples": 48,
                "evaluation_digest": "8" * 64,
            },
        },
        "machine": {"model": name, "cores": 2, "vnni": True},
        "versions": {"onnxruntime": "1.24.0"},
        "size": {"original_bytes": 1_000_000, "variant_bytes": 250_000, "ratio": 0.25},
        "gate": {
            "verdict": "accepted",
            "reasons": [name],
            "budget": {"max_accuracy_drop": 0.01, "min_speedup": 1.5},
            "batchable": True,
            "paddable": True,
        },
        "quality": {
            "original_accuracy": 0.92,
            "paired_test": {
                "lost": 2, "gained": 1, "p_value": 0.000071, "change_points": -0.5, "low_points": -2.0,
                "high_points": 1.0,
            },
        },
        "latency": {
            "original_ms": {"p50": 2.0, "p95": 3.0, "p99": 4.0},
            "variant_ms": {"p50": 1.0, "p95": 1.5, "p99": 2.0},
            "speedup": 2.0,
            "low": 1.9,
            "high": 2.1,
            "pairs": 10,
            "intra_op_threads": 1,
            "distribution": {
                "edges_ms": [1.0, 2.0, 4.0],
                "original": [0, 9],
                "variant": [9, 1],
                "slower_original": 1,
                "slower_variant": 0,
            },
        },
        "operators": [{"operator": name, "original_ms": 0.5, "variant_ms": 1.25}],
        "calibration_coverage": {"tensors": 3, "mean": 0.9987, "worst": [{"tensor": name, "covered": 0.98765}]},
        "portability": {
            "samples": 32, "nodes": 2, "worst": name, "share": 0.1, "agreement": 0.5, "sqnr_db": 12.0,
        },
        "activations": [
            {
                "layer": name, "tensor": name, "low": -1.0, "high": 1.5, "minimum": -2.0, "maximum": 3.0,
                "clipped": 0.0123, "first_edge": -2.0, "bin_width": 1.0, "shares": [0.1, 0.5, 0.0, 0.3, 0.1],
                "scale": 0.0098, "zero_point": 102, "datatype": "uint8",
            }
        ],
        "confusion": {
            "rows": "label", "classes": [name, "dog"], "original": [[4, 1], [0, 5]], "variant": [[3, 2], [0, 5]],
        },
        "answers": {
            "kind": "classes",
            "samples_compared": 200,
            "changed": 3,
            "samples": [
                {
                    "sample": 17, "label": name, "original": name, "original_probability": 0.6, "variant": "dog",
                    "variant_probability": 0.55, "margin": 0.2, "change": "lost", "image": "data:image/png;base64,AAAA",
                },
                {
                    "sample": 18, "label": None, "original": "1", "original_probability": None, "variant": "2",
                    "variant_probability": None, "margin": None, "change": "unknown",
                },
            ],
        },
        "precision": [
            {
                "layer": name, "nodes": 2, "precision": "fp32", "sqnr_db": 20.0, "accuracy_change": None,
                "fp32_ms": 0.1, "int8_ms": 0.2, "why": name,
            },
            {
                "layer": "unknown", "nodes": 1, "precision": "int8", "sqnr_db": None, "accuracy_change": None,
                "fp32_ms": None, "int8_ms": None, "why": "as the point of the earlier search has it",
            },
        ],
        "search": {"seconds": 14.3, "samples": 48, "trials": 7, "budget_met": True},
        "points": [_POINT, {**_POINT, "layers_in_fp32": 3, "sqnr_db": 40.0, "latency_ms": 1.5, "chosen": False}],
        "training": {
            "samples": 40, "validation_samples": 8, "labelled": True, "parameters": 1000, "learned_scales": 10,
            "stopped_because": name, "best_epoch": 1, "loss_before": 0.5, "loss_after": 0.25, "kept": True,
        },
        "epochs": [
            {"epoch": 0, "training_loss": None, "validation_loss": 0.5, "agreement": 0.9, "seconds": 0.0},
            {"epoch": 1, "training_loss": 0.3, "validation_loss": 0.25, "agreement": 0.9, "seconds": 1.0},
        ],
        "layers": [
            {
                "name": name, "operator": "Conv", "sqnr_db": 20.5, "tensor": name, "shape": [1, 8, 4, 4],
                "activations": "uint8", "weights": "int8", "repairs": ["bias corrected", name],
            }
        ],
        "notes": [name],
        "something_new": {"part": name},
    }  # fmt: skip
