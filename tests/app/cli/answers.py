"""A server made of a function, and the JSON that the real one would send."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from app.cli.connection import Connection

Handler = Callable[[httpx.Request], httpx.Response]

JOB: dict[str, Any] = {
    "id": "0" * 32,
    "model": "resnet",
    "revision": 1,
    "variant": "int8",
    "version": None,
    "method": "int8",
    "options": {},
    "dataset": None,
    "state": "queued",
    "stage": "queued",
    "progress": 0.0,
    "attempts": 0,
    "error": None,
}

ORIGINAL: dict[str, Any] = {
    "variant": "original",
    "version": 1,
    "revision": 1,
    "method": "original",
    "state": "ready",
    "verdict": None,
    "reasons": [],
    "overridden": False,
    "batchable": None,
    "paddable": False,
    "default": True,
    "size_bytes": 1_000_000,
    "size_ratio": 1.0,
    "accuracy": None,
    "accuracy_ratio": None,
    "agreement": None,
    "cosine": None,
    "sqnr_db": None,
    "latency_ms": None,
    "speedup": None,
    "speedup_low": None,
    "speedup_high": None,
    "samples": None,
    "dataset": None,
    "engine": "onnxruntime",
    "digest": "0" * 64,
    "created_at": "2026-01-31T12:00:00Z",
}

INT8: dict[str, Any] = ORIGINAL | {
    "variant": "int8",
    "version": 2,
    "method": "int8",
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
    "cosine": 0.99871,
    "sqnr_db": 27.44,
    "latency_ms": {"p50": 0.199, "p95": 0.36, "p99": 0.41},
    "speedup": 1.95,
    "speedup_low": 1.91,
    "speedup_high": 1.99,
    "samples": 256,
    "dataset": "cifar10",
}


def connection(handler: Handler) -> Connection:
    """A session with the server that `handler` is."""
    return Connection(httpx.Client(base_url="http://octet", transport=httpx.MockTransport(handler)))


def stream(events: Sequence[Mapping[str, Any]], *, first_id: int = 1) -> bytes:
    """`events` as server-sent events, as the gateway frames them."""
    return b"".join(
        f"id: {number}\r\nevent: {event['state']}\r\ndata: {json.dumps(event)}\r\n\r\n".encode()
        for number, event in enumerate(events, start=first_id)
    )
