"""Lanes over a model that does as the test says, and records what it was run with."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.engines.engine import Array
from app.errors import DeadlineUnmet, Invalid, QueueFull, Unavailable
from app.serving.batch_queue import Answer, BatchQueue
from app.serving.batches import Work
from app.serving.padding import Padding
from tests.app.serving.queues import BAD, SOON_S, House, Model, ran, values, work


def test_one_alone_waits_for_nobody(house: House) -> None:
    answer = house.queue().submit(work(3)).result(SOON_S)
    assert values(answer) == [6]
    assert answer.timing.batch_rows == 1


def test_those_who_wait_are_joined_in_order_and_get_their_own_rows(house: House) -> None:
    queue = house.queue()
    first = house.occupied(queue)
    futures = [queue.submit(work(*numbers)) for numbers in ((1, 2), (3,), (4, 5, 6))]
    house.model.gate.set()
    assert [values(future.result(SOON_S)) for future in futures] == [[2, 4], [6], [8, 10, 12]]
    assert values(first.result(SOON_S)) == [2000]
    assert ran(house.model) == [[1000], [1, 2, 3, 4, 5, 6]]
    timing = futures[0].result().timing
    assert timing.batch_rows == 6
    assert timing.queue_ns > futures[2].result().timing.queue_ns
    assert timing.compute.infer_ns > 0


def test_the_limit_counts_rows(house: House) -> None:
    queue = house.queue(batch_rows=4)
    house.occupied(queue)
    futures = [queue.submit(work(*range(rows))) for rows in (2, 2, 3, 9, 1)]
    house.model.gate.set()
    for future in futures:
        future.result(SOON_S)
    assert [len(batch) for batch in house.model.batches] == [1, 4, 3, 9, 1]


def test_different_shapes_are_computed_apart(house: House) -> None:
    queue = house.queue()
    house.occupied(queue)
    futures = [queue.submit(work(number, width=1 + number % 2)) for number in range(6)]
    house.model.gate.set()
    assert [values(future.result(SOON_S)) for future in futures] == [[2 * number] for number in range(6)]
    assert ran(house.model) == [[1000], [0, 2, 4], [1, 3, 5]]


def test_variants_that_take_no_batches_get_none(house: House) -> None:
    queue = house.queue(joins=False)
    house.occupied(queue)
    futures = [queue.submit(work(number)) for number in range(3)]
    house.model.gate.set()
    for future in futures:
        future.result(SOON_S)
    assert ran(house.model) == [[1000], [0], [1], [2]]


def test_the_urgent_go_first(house: House) -> None:
    queue = house.queue(batch_rows=1)
    house.occupied(queue)
    futures = [queue.submit(work(number, priority=priority)) for number, priority in enumerate((0, 9, 1, 0, 2))]
    house.model.gate.set()
    for future in futures:
        future.result(SOON_S)
    assert ran(house.model) == [[1000], [2], [4], [0], [3], [1]]


def test_a_bad_request_fails_alone(house: House) -> None:
    queue = house.queue()
    house.occupied(queue)
    futures = [queue.submit(work(value)) for value in (1, BAD, 3)]
    house.model.gate.set()
    assert values(futures[0].result(SOON_S)) == [2]
    assert values(futures[2].result(SOON_S)) == [6]
    with pytest.raises(Invalid, match="refused"):
        futures[1].result(SOON_S)
    assert ran(house.model)[1:] == [[1, BAD, 3], [1], [BAD], [3]]
    assert queue.joins


@pytest.mark.parametrize("answer", [lambda x: x[:1] * 2, lambda x: x * 2 if len(x) == 1 else 1 / 0])
def test_a_model_that_takes_no_batches_after_all_is_found_out(house: House, answer: Callable[[Array], Array]) -> None:
    queue = house.queue()
    house.model.answer = answer
    for _ in range(2):
        house.model.entered = threading.Semaphore(0)
        house.occupied(queue)
        futures = [queue.submit(work(value)) for value in (1, 2)]
        house.model.gate.set()
        assert [values(future.result(SOON_S)) for future in futures] == [[2], [4]]
    assert ran(house.model) == [[1000], [1, 2], [1], [2], [1000], [1], [2]]


PADDING = Padding((("x", 1),), (("double", 1),))


def shapes(model: Model) -> list[tuple[int, ...]]:
    return [batch.shape for batch in model.batches]


def test_sequences_of_one_bucket_are_padded_to_the_longest_of_them_and_cut_again(house: House) -> None:
    queue = house.queue(padding=PADDING)
    first = house.occupied(queue)
    widths = (17, 19, 40, 18)
    futures = [queue.submit(work(number, width=width)) for number, width in enumerate(widths, start=1)]
    house.model.gate.set()
    for number, (future, width) in enumerate(zip(futures, widths, strict=True), start=1):
        answer = future.result(SOON_S)
        assert answer.arrays[0].tolist() == [[2 * number] * width]
        assert answer.timing.batch_rows == (1 if width == 40 else 3)
    first.result(SOON_S)
    # Who is alone is not padded, and nobody to the border of the bucket.
    assert shapes(house.model) == [(1, 1), (3, 19), (1, 40)]
    assert house.model.batches[1][0].tolist() == [1] * 17 + [0] * 2


def test_outputs_without_the_axis_are_left_as_they_are(house: House) -> None:
    queue = house.queue(padding=Padding((("x", 1),), ()))
    house.model.answer = lambda x: x.sum(axis=1, keepdims=True)
    house.occupied(queue)
    futures = [queue.submit(work(1, width=width)) for width in (17, 19)]
    house.model.gate.set()
    assert [future.result(SOON_S).arrays[0].tolist() for future in futures] == [[[17]], [[19]]]
    assert shapes(house.model)[1:] == [(2, 19)]


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: x[:, :17] * 2,
        lambda x: x * 2 if len(x) == 1 or x.all() else 1 / 0,
    ],
)
def test_a_model_that_cannot_be_padded_after_all_is_padded_no_more(
    house: House, answer: Callable[[Array], Array]
) -> None:
    queue = house.queue(padding=PADDING)
    house.model.answer = answer
    for _ in range(2):
        house.model.entered = threading.Semaphore(0)
        house.occupied(queue)
        futures = [queue.submit(work(number, width=width)) for number, width in ((1, 16), (2, 17), (3, 18), (4, 17))]
        house.model.gate.set()
        assert [values(future.result(SOON_S)) for future in futures] == [[2], [4], [6], [8]]
    assert shapes(house.model) == [
        *[(1, 1), (1, 16), (3, 18), (1, 17), (1, 18), (1, 17)],
        *[(1, 1), (1, 16), (2, 17), (1, 18)],
    ]
    # Equal shapes are still joined.
    assert queue.joins


def test_a_bad_sequence_fails_alone(house: House) -> None:
    queue = house.queue(padding=PADDING)
    house.occupied(queue)
    futures = [queue.submit(work(value, width=width)) for value, width in ((1, 17), (BAD, 18), (3, 19))]
    house.model.gate.set()
    assert values(futures[0].result(SOON_S)) == [2]
    assert values(futures[2].result(SOON_S)) == [6]
    with pytest.raises(Invalid, match="refused"):
        futures[1].result(SOON_S)
    assert queue.padding == PADDING


def test_the_pace_is_that_of_what_is_computed(house: House) -> None:
    """Padding too: a batch of 3 sequences padded to 20 costs what 60 positions cost, though 54 were asked for."""
    house.now = 0
    queue = house.queue(padding=PADDING)
    ran: list[int] = []
    real = queue._costs.ran
    queue._costs.ran = lambda size, *times: (ran.append(size), real(size, *times))  # type: ignore[method-assign, func-returns-value]
    house.occupied(queue)
    futures = [queue.submit(work(1, width=width)) for width in (17, 17, 20)]
    house.model.gate.set()
    for future in futures:
        future.result(SOON_S)
    assert ran == [batch.size for batch in house.model.batches] == [1, 60]


def test_what_is_cancelled_in_line_is_not_computed(house: House) -> None:
    queue = house.queue()
    house.occupied(queue)
    futures = [queue.submit(work(number)) for number in range(3)]
    assert futures[1].cancel()
    house.model.gate.set()
    assert values(futures[2].result(SOON_S)) == [4]
    assert ran(house.model) == [[1000], [0, 2]]
    with pytest.raises(CancelledError):
        futures[1].result(SOON_S)
    assert not futures[2].cancel()


def test_a_full_queue_refuses_rows_until_there_is_room(house: House) -> None:
    queue = house.queue(waiting_rows=3)
    first = house.occupied(queue)
    # One that is larger than the queue is taken where nobody else waits.
    waiting = queue.submit(work(1, 2, 3, 4))
    with pytest.raises(QueueFull, match="4 rows waiting"):
        queue.submit(work(5))
    assert waiting.cancel()
    second = queue.submit(work(5))
    house.model.gate.set()
    assert values(first.result(SOON_S)) == [2000]
    assert values(second.result(SOON_S)) == [10]


def test_what_would_come_too_late_is_refused_before_it_computes(house: House) -> None:
    house.now = 0
    queue = house.queue()

    def slow(x: Array) -> Array:
        assert house.now is not None
        house.now += 10_000_000
        return x

    house.model.answer = slow
    queue.submit(work(1)).result(SOON_S)
    with pytest.raises(DeadlineUnmet, match="timeout"):
        queue.submit(work(2, timeout_us=9_000))
    queue.submit(work(3, timeout_us=11_000)).result(SOON_S)
    # Two wait before it, and the third would be done after 30 ms.
    house.occupied(queue)
    accepted = [queue.submit(work(number)) for number in (4, 5)]
    with pytest.raises(DeadlineUnmet):
        queue.submit(work(6, timeout_us=25_000))
    accepted.append(queue.submit(work(7, timeout_us=25_000, priority=1)))
    house.model.gate.set()
    for future in accepted:
        future.result(SOON_S)
    assert [2] not in ran(house.model)
    assert all(6 not in batch for batch in ran(house.model))


def test_what_waited_too_long_is_refused_at_its_turn(house: House) -> None:
    house.now = 0
    queue = house.queue(batch_rows=1)
    house.occupied(queue)
    late, patient = queue.submit(work(1, timeout_us=5)), queue.submit(work(2))
    house.now = 6_000
    house.model.gate.set()
    with pytest.raises(DeadlineUnmet):
        late.result(SOON_S)
    assert values(patient.result(SOON_S)) == [4]
    assert ran(house.model) == [[1000], [2]]


def test_who_is_too_late_is_told_while_the_model_is_still_busy(house: House) -> None:
    queue = house.queue()
    # This clock moves on by itself, whenever somebody looks.
    first = house.occupied(queue)
    late = queue.submit(work(1, timeout_us=1))
    with pytest.raises(DeadlineUnmet):
        late.result(SOON_S)
    assert not first.done()


def test_a_delay_waits_for_company_but_not_for_more_than_fits(house: House) -> None:
    house.now = 0
    queue = house.queue(batch_rows=3, delay_ns=10**12)
    futures = [queue.submit(work(number)) for number in range(2)]
    assert house.model.batches == []
    futures.append(queue.submit(work(2)))
    for future in futures:
        future.result(SOON_S)
    assert ran(house.model) == [[0, 1, 2]]


def test_a_delay_ends(house: House) -> None:
    queue = house.queue(batch_rows=3, delay_ns=50)
    assert values(queue.submit(work(1)).result(SOON_S)) == [2]


def test_idle_threads_share_what_takes_long(house: House) -> None:
    queue = house.queue(threads=2)
    house.now = 0
    two_at_once = threading.Barrier(2)

    def slow(x: Array) -> Array:
        assert house.now is not None
        house.now += 10_000_000
        if len(x) == 2:
            two_at_once.wait(SOON_S)
        return x * 2

    house.model.answer = slow
    queue.submit(work(1)).result(SOON_S)
    house.pool.drop({house.target.artifact.digest})
    # While the model loads all four get in line, and then both threads are free.
    futures = _all_at_once(house, queue, [work(number) for number in range(4)])
    for future in futures:
        future.result(SOON_S)
    assert sorted(ran(house.model)[-2:]) == [[0, 1], [2, 3]]


def _all_at_once(house: House, queue: BatchQueue, works: list[Work]) -> list[Any]:
    begun, go_on = threading.Event(), threading.Event()
    real = house.engine.load

    def slow_load(path: Path, **options: Any) -> Model:
        begun.set()
        assert go_on.wait(SOON_S)
        return real(path, **options)

    house.engine.load = slow_load  # type: ignore[method-assign]
    futures = [queue.submit(each) for each in works]
    assert begun.wait(SOON_S)
    go_on.set()
    return futures


def test_requests_wait_for_their_model_to_load_and_no_thread_with_them(house: House) -> None:
    queue = house.queue(loaded=False)
    futures = _all_at_once(house, queue, [work(number) for number in range(3)])
    assert [values(future.result(SOON_S)) for future in futures] == [[0], [2], [4]]


def test_a_load_that_fails_is_told_to_all_and_the_next_request_tries_again(house: House) -> None:
    queue = house.queue(loaded=False)
    house.engine.error = Invalid("failed to load")
    for _ in range(2):
        with pytest.raises(Invalid, match="failed to load"):
            queue.submit(work(1)).result(SOON_S)
    house.engine.error = None
    assert values(queue.submit(work(1)).result(SOON_S)) == [2]


def test_what_happened_is_counted(house: House) -> None:
    queue = house.queue()
    house.occupied(queue)
    futures = [queue.submit(work(*numbers)) for numbers in ((1, 2), (3,))]
    house.model.gate.set()
    for future in futures:
        future.result(SOON_S)
    with pytest.raises(Invalid):
        queue.submit(work(BAD)).result(SOON_S)
    counted = house.tally()
    assert (counted.rows, counted.executions) == (4, 2)
    assert (counted.success.count, counted.fail.count) == (3, 1)
    assert sorted(counted.batches) == [1, 3]


def test_closing_fails_those_who_wait(house: House) -> None:
    house.now = 0
    queue = house.queue(delay_ns=10**12)
    future = queue.submit(work(1))
    queue.close()
    with pytest.raises(Unavailable, match="stopping"):
        future.result(SOON_S)


def test_a_failed_request_does_not_keep_the_model(house: House) -> None:
    """Else its memory would stay for as long as somebody looks at the error."""
    queue = house.queue()
    error = queue.submit(work(BAD)).exception(SOON_S)
    assert error is not None
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    assert frames
    assert all(house.model is not value for frame in frames for value in frame.f_locals.values())


def answered(queue: BatchQueue, asked: Work, run_inline: bool) -> Answer:
    return (queue.run_inline(asked) if run_inline else None) or queue.submit(asked).result(SOON_S)


REQUESTS = st.lists(
    st.tuples(
        st.integers(1, 5),  # rows
        st.integers(1, 24),  # width: which shape
        st.integers(0, 3),  # priority
        st.sampled_from(["good", "good", "good", "bad", "cancelled"]),
        st.booleans(),  # at once, if it may be
    ),
    min_size=1,
    max_size=24,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    requests=REQUESTS,
    threads=st.integers(1, 3),
    batch_rows=st.integers(1, 12),
    padding=st.sampled_from([None, PADDING]),
)
def test_whatever_comes_together_each_gets_its_own_answer(
    house: House,
    requests: list[tuple[int, int, int, str, bool]],
    threads: int,
    batch_rows: int,
    padding: Padding | None,
) -> None:
    queue = house.queue(threads=threads, batch_rows=batch_rows, padding=padding, steady=True)
    numbers = itertools.count(1)

    def ask(request: tuple[int, int, int, str, bool]) -> None:
        rows, width, priority, fate, run_inline = request
        mine = [float(next(numbers)) for _ in range(rows)]
        asked = work(*(mine if fate != "bad" else [*mine[1:], BAD]), width=width, priority=priority)
        if fate == "bad":
            with pytest.raises(Invalid, match="refused"):
                answered(queue, asked, run_inline)
            return
        if fate == "cancelled":
            future = queue.submit(asked)
            if future.cancel():
                return
            answer = future.result(SOON_S)
        else:
            answer = answered(queue, asked, run_inline)
        assert values(answer) == [2 * number for number in mine]
        assert answer.arrays[0].shape == (rows, width)
        assert rows <= answer.timing.batch_rows <= max(rows, batch_rows)

    with ThreadPoolExecutor(6) as callers:
        list(callers.map(ask, requests))
    # A turn may still be due for those who were cancelled.
    house.close()
    assert queue.idle
    assert queue.joins
    assert queue.padding == padding
