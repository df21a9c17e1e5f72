from concurrent.futures import ThreadPoolExecutor

from app.serving.statistics import ComputeTime, Statistics


def test_a_batch_counts_once_as_execution_and_once_for_each_request() -> None:
    statistics = Statistics()
    statistics.record("m", 1, rows=5, queues_ns=[10, 20], compute=ComputeTime(1, 100, 2))
    statistics.record("m", 1, rows=1, queues_ns=[0], compute=ComputeTime(0, 7, 0))
    statistics.record_failure("m", 1, 33)
    tally = statistics.of("m", 1)
    assert (tally["inference_count"], tally["execution_count"]) == (6, 2)
    assert tally["last_inference"] > 1_600_000_000_000
    stats = tally["inference_stats"]
    assert stats["queue"] == {"count": 3, "ns": 30}
    assert stats["success"] == {"count": 3, "ns": 30 + 2 * 103 + 7}
    assert stats["fail"] == {"count": 1, "ns": 33}
    assert stats["compute_infer"] == {"count": 3, "ns": 207}
    assert stats["compute_input"] == {"count": 3, "ns": 2}
    assert stats["compute_output"] == {"count": 3, "ns": 4}
    assert [(row["batch_size"], row["compute_infer"]) for row in tally["batch_stats"]] == [
        (1, {"count": 1, "ns": 7}),
        (5, {"count": 1, "ns": 100}),
    ]


def test_a_variant_that_answered_nothing_has_zeros() -> None:
    tally = Statistics().of("m", 1)
    assert tally["inference_count"] == tally["last_inference"] == 0
    assert set(tally["inference_stats"]) == {
        *("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")
    }
    assert tally["batch_stats"] == []


def test_no_count_is_lost_among_threads() -> None:
    statistics = Statistics()

    def record(_: int) -> None:
        statistics.record("m", 1, rows=2, queues_ns=[1, 1], compute=ComputeTime(1, 1, 1))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(record, range(2000)))
    tally = statistics.of("m", 1)
    assert (tally["inference_count"], tally["execution_count"]) == (4000, 2000)
    assert tally["inference_stats"]["queue"] == {"count": 4000, "ns": 4000}
