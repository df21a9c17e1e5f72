from concurrent.futures import ThreadPoolExecutor

from app.serving.statistics import SECONDS, ComputeTime, Spread, Statistics, Tally, Total, merged

KEY = ("m", 1)


def test_a_batch_counts_once_as_execution_and_once_for_each_request() -> None:
    statistics = Statistics()
    statistics.record(KEY, rows=5, queues_ns=[10, 20], compute=ComputeTime(1, 100, 2))
    statistics.record(KEY, rows=1, queues_ns=[0], compute=ComputeTime(0, 7, 0))
    statistics.record_failure(KEY, 33)
    tally = statistics.snapshot()[KEY]
    assert (tally.rows, tally.executions) == (6, 2)
    assert tally.last_inference_ms > 1_600_000_000_000
    assert tally.queue == Total(3, 30)
    assert tally.success == Total(3, 30 + 2 * 103 + 7)
    assert tally.fail == Total(1, 33)
    assert (tally.requests.input, tally.requests.infer, tally.requests.output) == (
        Total(3, 2),
        Total(3, 207),
        Total(3, 4),
    )
    assert {rows: batch.infer for rows, batch in tally.batches.items()} == {5: Total(1, 100), 1: Total(1, 7)}


def test_times_are_counted_by_class() -> None:
    spread = Spread()
    for seconds in (0, SECONDS[0], SECONDS[0] + 1e-9, SECONDS[-1], 1000):
        spread.add(round(seconds * 1e9))
    assert (spread.counts[0], spread.counts[1], spread.counts[-2], spread.counts[-1]) == (2, 1, 1, 1)
    assert sum(spread.counts) == 5


def test_a_snapshot_stays_as_it_was() -> None:
    statistics = Statistics()
    statistics.record(KEY, rows=1, queues_ns=[5], compute=ComputeTime(1, 1, 1))
    before = statistics.snapshot()
    statistics.record(KEY, rows=1, queues_ns=[5], compute=ComputeTime(1, 1, 1))
    assert before[KEY].executions == before[KEY].batches[1].infer.count == sum(before[KEY].queue_spread.counts) == 1


def test_merging_adds_up() -> None:
    statistics = Statistics(), Statistics()
    for number, one in enumerate(statistics, start=1):
        one.record(KEY, rows=number, queues_ns=[number], compute=ComputeTime(1, 10, 1))
        one.record_failure(("other", number), 1)
    both = merged([one.snapshot() for one in statistics])
    assert set(both) == {KEY, ("other", 1), ("other", 2)}
    assert (both[KEY].rows, both[KEY].executions, both[KEY].queue) == (3, 2, Total(2, 3))
    assert set(both[KEY].batches) == {1, 2}
    assert sum(both[KEY].infer_spread.counts) == 2
    assert merged([]) == {}
    assert merged([{KEY: Tally()}]) == {KEY: Tally()}


def test_no_count_is_lost_among_threads() -> None:
    statistics = Statistics()

    def record(_: int) -> None:
        statistics.record(KEY, rows=2, queues_ns=[1, 1], compute=ComputeTime(1, 1, 1))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(record, range(2000)))
    tally = statistics.snapshot()[KEY]
    assert (tally.rows, tally.executions, tally.queue) == (4000, 2000, Total(4000, 4000))
