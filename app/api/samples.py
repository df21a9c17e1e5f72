"""What answers look like, for the document: those of `octet demo`.

They stand here and not at the views since the framework leaves out what is null.
"""

from typing import Any

_JOB_ID = "bfb10c699fa94d5f88ec9d83f19d0834"
_DIGEST = "1e32e2bd3015966d431e6ab555b351653f4a6487cc81acc0d634dc7d5f521fa5"
_INT8_DIGEST = "9a4f1f8f54d7c1f6a2f9a3f0f3c39f0d3f7d1f6e1f6f0b8f5d2c3b4a59687786"
_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]

_JOB: dict[str, Any] = {
    "id": _JOB_ID,
    "model": "resnet20",
    "revision": 1,
    "variant": "int8",
    "version": 4,
    "method": "int8",
    "options": {"max_accuracy_drop": 0.01, "per_channel": True, "calibration": "auto"},
    "dataset": "cifar10",
    "state": "succeeded",
    "stage": "done",
    "progress": 1.0,
    "detail": None,
    "attempts": 1,
    "error": None,
    "created_at": "2026-01-31T12:00:00Z",
    "started_at": "2026-01-31T12:00:01Z",
    "finished_at": "2026-01-31T12:00:07Z",
}

_MODEL: dict[str, Any] = {
    "name": "resnet20",
    "revision": 1,
    "digest": _DIGEST,
    "size_bytes": 1095404,
    "opset": 17,
    "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 3, 32, 32]}],
    "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, 10]}],
    "quantized": False,
    "labels": _CLASSES,
    "default_variant": "original",
    "default_version": 1,
    "jobs": [_JOB],
    "created_at": "2026-01-31T12:00:00Z",
}

_DATASET: dict[str, Any] = {
    "name": "cifar10",
    "samples": 512,
    "arrays": [
        {"name": "input", "dtype": "float32", "shape": [512, 3, 32, 32]},
        {"name": "label", "dtype": "int64", "shape": [512]},
    ],
    "labelled": True,
    "class_names": None,
    "digest": "3d8fb22a7ded83e5d2bc0c84991a6495b67d4f2bf047230aed55e8d270b5f9ae",
    "size_bytes": 6296062,
    "created_at": "2026-01-31T12:00:00Z",
}

_VARIANT: dict[str, Any] = {
    "variant": "int8",
    "version": 4,
    "revision": 1,
    "method": "int8",
    "state": "ready",
    "verdict": "accepted",
    "reasons": [],
    "overridden": False,
    "batchable": True,
    "paddable": False,
    "default": False,
    "size_bytes": 331580,
    "size_ratio": 0.303,
    "accuracy": 0.852,
    "accuracy_ratio": 1.0,
    "agreement": 1.0,
    "cosine": 0.99987,
    "sqnr_db": 36.0,
    "latency_ms": {"p50": 0.362, "p95": 0.537, "p99": 0.6},
    "speedup": 2.13,
    "speedup_low": 2.1,
    "speedup_high": 2.16,
    "samples": 256,
    "dataset": "cifar10",
    "engine": "onnxruntime",
    "digest": _INT8_DIGEST,
    "created_at": "2026-01-31T12:00:07Z",
    "files": [
        {
            "name": "resnet20-int8.onnx",
            "digest": _INT8_DIGEST,
            "url": "/api/v1/models/resnet20/variants/4/artifact",
        }
    ],
}

_EXPERIMENT: dict[str, Any] = {
    "id": "0c8f9f5be1d94f6b8a4c2b7d3e6f1a08",
    "model": "resnet20",
    "revision": 1,
    "name": "int8-live",
    "state": "draft",
    "seed": "5f0c9a52e1d94f6b8a4c2b7d3e6f1a08",
    "unit": {"from": ["header:X-Unit-Id", "param:unit_id", "api_key"], "on_missing": "control"},
    "arms": [
        {"variant": "original", "version": 1, "weight": 50, "control": True, "stopped": False, "share": 0.05},
        {"variant": "int8", "version": 4, "weight": 50, "control": False, "stopped": False, "share": 0.05},
    ],
    "coverage": 0.1,
    "shadow": [{"variant": "int8", "version": 4, "sample": 0.05}],
    "ramp": None,
    "step": 0,
    "step_at": None,
    "guardrails": [{"metric": "error_rate", "margin_abs": 0.002}],
    "analysis": {"alpha": 0.05},
    "auto_rollback": True,
    "created_at": "2026-01-31T12:00:00Z",
    "started_at": None,
    "ended_at": None,
    "closed_at": None,
}

_KEY: dict[str, Any] = {
    "id": "4f1c9a7be02d",
    "name": "shop",
    "scope": "infer",
    "models": "resnet*",
    "state": "active",
    "rate": 100.0,
    "burst": None,
    "upload_quota_bytes": None,
    "created_at": "2026-01-31T12:00:00Z",
    "expires_at": None,
    "revoked_at": None,
    "last_used_at": None,
}

#: By the name of their schema.
ANSWERS: dict[str, dict[str, Any]] = {
    "JobView": _JOB,
    "ModelView": _MODEL,
    "DatasetView": _DATASET,
    "VariantView": _VARIANT,
    "VariantDetail": _VARIANT | {"options": _JOB["options"]},
    "ExperimentView": _EXPERIMENT,
    "KeyView": _KEY,
    "NewKeyView": _KEY | {"key": "octet_4f1c9a7be02d_…"},
}
