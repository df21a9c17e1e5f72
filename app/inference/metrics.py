"""Prometheus figures of inference, by model and variant, of all processes that serve together.

Beside our own names stand Triton's, under which existing dashboards look. Counts are read when Prometheus asks; nothing
is counted twice.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, UnknownMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from app.serving.figures import Figures
from app.serving.pool import Artifact
from app.serving.statistics import SECONDS, Key, Spread, Tally, Total

#: (model, integer version) → its label, and its artifact.
Known = Mapping[Key, tuple[str, Artifact]]

_LABELS = ("model", "variant", "version")
_TRITON_LABELS = ("model", "version")


class InferenceMetrics(Collector):
    """`read` gives the figures, and the variants that there are: of others, which were deleted, nothing is told."""

    def __init__(self, read: Callable[[], tuple[Figures, Known]]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        figures, known = self._read()
        tallies = {key: tally for key, tally in figures.tallies.items() if key in known}
        labels = {key: (key[0], known[key][0], str(key[1])) for key in known}
        yield from _counters(tallies, labels)
        yield _histogram("queue", "Time in line before computing.", tallies, labels, _waiting)
        yield _histogram("compute", "Time of a batch inside the engine.", tallies, labels, _computing)
        yield _batch_rows(tallies, labels)
        yield _loaded(figures, known, labels)
        yield _crashes(figures, known, labels)
        yield from _processes(figures)
        yield from _as_triton(tallies)


def registry(read: Callable[[], tuple[Figures, Known]], *, alone: bool) -> CollectorRegistry:
    """All that is told. `alone`: no other process serves with this one, so its own CPU and files mean something."""
    collectors = CollectorRegistry(auto_describe=False)
    collectors.register(InferenceMetrics(read))
    if alone:
        ProcessCollector(registry=collectors)
        PlatformCollector(registry=collectors)
    return collectors


Labels = Mapping[Key, tuple[str, str, str]]


def _counters(tallies: Mapping[Key, Tally], labels: Labels) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "octet_inference_requests", "Inference requests that reached a variant.", labels=_LABELS
    )
    errors = CounterMetricFamily("octet_inference_errors", "Inference requests that a variant failed.", labels=_LABELS)
    rows = CounterMetricFamily("octet_inference_rows", "Rows of the requests that were answered.", labels=_LABELS)
    for key, tally in tallies.items():
        requests.add_metric(labels[key], tally.success.count + tally.fail.count)
        errors.add_metric(labels[key], tally.fail.count)
        rows.add_metric(labels[key], tally.rows)
    return iter((requests, errors, rows))


def _waiting(tally: Tally) -> tuple[Spread, int]:
    return tally.queue_spread, tally.queue.ns


def _computing(tally: Tally) -> tuple[Spread, int]:
    return tally.infer_spread, sum(batch.infer.ns for batch in tally.batches.values())


def _histogram(
    what: str,
    meaning: str,
    tallies: Mapping[Key, Tally],
    labels: Labels,
    of: Callable[[Tally], tuple[Spread, int]],
) -> Metric:
    family = HistogramMetricFamily(f"octet_inference_{what}_seconds", meaning, labels=_LABELS)
    for key, tally in tallies.items():
        spread, total_ns = of(tally)
        classes = zip((*map(str, SECONDS), "+Inf"), spread.counts, strict=True)
        family.add_metric(labels[key], _cumulative(classes), total_ns / 1e9)
    return family


def _batch_rows(tallies: Mapping[Key, Tally], labels: Labels) -> Metric:
    family = HistogramMetricFamily("octet_inference_batch_rows", "Rows that were computed together.", labels=_LABELS)
    bounds = [1 << power for power in range(13)]
    for key, tally in tallies.items():
        counts = dict.fromkeys((*map(str, bounds), "+Inf"), 0)
        for rows, batch in tally.batches.items():
            counts[next((str(bound) for bound in bounds if rows <= bound), "+Inf")] += batch.infer.count
        family.add_metric(labels[key], _cumulative(counts.items()), tally.rows)
    return family


def _cumulative(classes: Iterable[tuple[str, int]]) -> list[tuple[str, float]]:
    so_far = 0
    return [(bound, so_far := so_far + count) for bound, count in classes]


def _loaded(figures: Figures, known: Known, labels: Labels) -> Metric:
    family = GaugeMetricFamily("octet_loaded_bytes", "Memory that a loaded variant takes.", labels=_LABELS)
    for key, (_, artifact) in known.items():
        if artifact in figures.loaded_bytes:
            family.add_metric(labels[key], figures.loaded_bytes[artifact])
    return family


def _crashes(figures: Figures, known: Known, labels: Labels) -> Metric:
    family = CounterMetricFamily(
        "octet_model_crashes", "Times that an isolated variant's process ended by itself.", labels=_LABELS
    )
    for key, (_, artifact) in known.items():
        if artifact in figures.crashes:
            family.add_metric(labels[key], figures.crashes[artifact])
    return family


def _processes(figures: Figures) -> Iterator[Metric]:
    yield GaugeMetricFamily("octet_gateway_processes", "Processes that serve together.", figures.processes)
    yield GaugeMetricFamily("octet_resident_bytes", "Memory of these processes.", figures.resident_bytes)


def _as_triton(tallies: Mapping[Key, Tally]) -> Iterator[Metric]:
    durations: dict[str, Callable[[Tally], Total]] = {
        "queue": lambda tally: tally.queue,
        "compute_input": lambda tally: tally.requests.input,
        "compute_infer": lambda tally: tally.requests.infer,
        "compute_output": lambda tally: tally.requests.output,
    }
    counts: dict[str, Callable[[Tally], int]] = {
        "request_success": lambda tally: tally.success.count,
        "request_failure": lambda tally: tally.fail.count,
        "count": lambda tally: tally.rows,
        "exec_count": lambda tally: tally.executions,
        "request_duration_us": lambda tally: (tally.success.ns + tally.fail.ns) // 1000,
        **{f"{name}_duration_us": _microseconds(of) for name, of in durations.items()},
    }
    for name, count in counts.items():
        # Of no known type, since a counter's name would be made to end in "_total", which Triton's do not.
        family = UnknownMetricFamily(f"nv_inference_{name}", "As Triton counts it.", labels=_TRITON_LABELS)
        for (model, version), tally in tallies.items():
            family.add_metric((model, str(version)), count(tally))
        yield family


def _microseconds(of: Callable[[Tally], Total]) -> Callable[[Tally], int]:
    return lambda tally: of(tally).ns // 1000
