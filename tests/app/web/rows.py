"""Rows of a comparison."""

from datetime import UTC, datetime
from typing import Any

from app.registry.comparison import LatencyView, Row

#: What a name must not be able to do.
EVIL = '"><script>alert(1)</script><b onclick=x>'


def row(**changes: Any) -> Row:
    whole: dict[str, Any] = {
        "variant": "int8",
        "version": 2,
        "revision": 1,
        "method": "int8",
        "state": "ready",
        "verdict": "accepted",
        "reasons": [],
        "overridden": False,
        "batchable": None,
        "paddable": False,
        "default": False,
        "size_bytes": 300_000,
        "size_ratio": 0.3,
        "accuracy": 0.8555,
        "accuracy_ratio": 1.0046,
        "agreement": 0.9922,
        "cosine": 0.999,
        "sqnr_db": 27.4,
        "latency_ms": LatencyView(p50=0.199, p95=0.36, p99=0.41),
        "speedup": 1.95,
        "speedup_low": 1.91,
        "speedup_high": 1.99,
        "samples": 256,
        "dataset": "cifar10",
        "engine": "onnxruntime",
        "digest": "0" * 64,
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return Row(**(whole | changes))


def original(**changes: Any) -> Row:
    facts: dict[str, Any] = {
        "variant": "original",
        "method": "original",
        "version": 1,
        "size_bytes": 1_000_000,
        "size_ratio": 1.0,
        "accuracy": 0.8516,
        "latency_ms": LatencyView(p50=0.4, p95=0.5, p99=0.6),
        **dict.fromkeys(("verdict", "accuracy_ratio", "agreement", "cosine", "sqnr_db", "speedup")),
        **dict.fromkeys(("speedup_low", "speedup_high")),
    }
    return row(**(facts | changes))
