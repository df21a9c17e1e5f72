"""Prometheus figures of inference, by model and variant."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Histogram

_LABELS = ("model", "variant")
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

_requests = Counter("octet_inference_requests", "Inference requests that reached a variant.", _LABELS)
_errors = Counter("octet_inference_errors", "Inference requests that a variant failed.", _LABELS)
_compute = Histogram("octet_inference_compute_seconds", "Time inside the engine.", _LABELS, buckets=_SECONDS)


@contextmanager
def measured(model: str, variant: str) -> Iterator[None]:
    """Counts one request, and its failure when the block raises."""
    _requests.labels(model, variant).inc()
    with _errors.labels(model, variant).count_exceptions():
        yield


def computed(model: str, variant: str, seconds: float) -> None:
    _compute.labels(model, variant).observe(seconds)
