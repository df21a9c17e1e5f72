from typing import Any

from app.registry.comparison import LatencyView
from app.web.frontier import tradeoff
from tests.app.web.rows import original, row


def at(label: str, p50: float, accuracy: float, **changes: Any) -> Any:
    latency = LatencyView(p50=p50, p95=p50, p99=p50)
    return row(variant=label, latency_ms=latency, accuracy=accuracy, **{"speedup": None, **changes})


def test_the_front_rises_in_steps_and_holds_none_that_is_beaten() -> None:
    found = tradeoff([original(accuracy=0.9), at("fast", 0.1, 0.7), at("good", 0.2, 0.8), at("bad", 0.3, 0.75)])
    assert found is not None
    assert found.chart.frontier == [(0.1, 0.7), (0.2, 0.8), (0.4, 0.9)]
    assert found.best == ["original", "fast", "good"]


def test_a_smaller_file_alone_keeps_a_variant_from_being_beaten() -> None:
    found = tradeoff([at("fast", 0.1, 0.8), at("small", 0.2, 0.7, size_bytes=10)])
    assert found is not None
    assert found.best == ["fast", "small"]
    assert found.chart.frontier == [(0.1, 0.8)]


def test_what_may_not_serve_is_shown_and_beats_none() -> None:
    found = tradeoff([original(), at("gone", 0.1, 0.9, verdict="rejected")])
    assert found is not None
    assert found.best == ["original"]
    assert [(point.label, point.tone) for point in found.chart.points] == [("original", "plain"), ("gone", "bad")]
    overridden = tradeoff([original(), at("gone", 0.1, 0.9, verdict="rejected", overridden=True)])
    assert overridden is not None
    assert overridden.best == ["gone"]


def test_without_labels_agreement_is_what_counts() -> None:
    found = tradeoff([original(accuracy=None), row(accuracy=None)])
    assert found is not None
    assert found.quality.name == "agreement"
    assert [point.y for point in found.chart.points] == [1.0, 0.9922]


def test_one_point_is_no_chart() -> None:
    assert tradeoff([original()]) is None
    assert tradeoff([original(), row(latency_ms=None)]) is None


def test_latencies_are_those_of_one_machine_at_one_time() -> None:
    """By its own job, `busy` was as slow as the original; in turn with it, twice as fast."""
    found = tradeoff([original(accuracy=0.9), at("busy", 0.4, 0.8, speedup=2.0), at("idle", 0.3, 0.8, speedup=1.6)])
    assert found is not None
    assert {point.label: point.x for point in found.chart.points} == {"original": 0.4, "busy": 0.2, "idle": 0.25}
    assert found.best == ["original", "busy"]
