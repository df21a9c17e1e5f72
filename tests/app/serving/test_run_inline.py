"""What a queue computes in the thread that asks, and what it does not."""

import threading

import pytest

from app.engines.engine import Array
from app.errors import DeadlineUnmet, Invalid
from app.serving.batch_queue import BatchQueue
from tests.app.serving.queues import BAD, SOON_S, House, values, work


@pytest.fixture
def quick(house: House) -> BatchQueue:
    """A queue whose runs are known to take next to no time."""
    queue = house.queue(steady=True)
    queue.submit(work(1)).result(SOON_S)
    return queue


def test_what_is_over_at_once_is_computed_in_the_calling_thread(house: House, quick: BatchQueue) -> None:
    threads: list[threading.Thread] = []

    def note(x: Array) -> Array:
        threads.append(threading.current_thread())
        return x

    house.model.answer = note
    answer = quick.run_inline(work(3, timeout_us=1000))
    assert answer is not None
    assert values(answer) == [3]
    assert answer.timing.batch_rows == 1
    assert threads == [threading.current_thread()]
    assert house.tally().rows == 2


def test_an_error_of_what_is_computed_at_once_is_raised(house: House, quick: BatchQueue) -> None:
    with pytest.raises(Invalid, match="refused"):
        quick.run_inline(work(BAD))
    assert house.tally().fail.count == 1
    with pytest.raises(DeadlineUnmet):
        quick.run_inline(work(1, timeout_us=0))


def test_nothing_is_computed_at_once_by_a_model_whose_runs_take_as_long_as_its_inputs_say(house: House) -> None:
    queue = house.queue(steady=False)
    queue.submit(work(1)).result(SOON_S)
    assert queue.run_inline(work(1)) is None


def test_nothing_is_computed_at_once_before_it_is_known_to_be_quick(house: House) -> None:
    assert house.queue(steady=True).run_inline(work(1)) is None


@pytest.mark.parametrize(
    ("threads", "took_ns", "run_inline"),
    [(1, 400_000, True), (2, 90_000, True), (2, 200_000, False), (1, 600_000, False)],
)
def test_nothing_slow_is_computed_at_once(house: House, threads: int, took_ns: int, run_inline: bool) -> None:
    house.now = 0
    queue = house.queue(steady=True, threads=threads)

    def slow(x: Array) -> Array:
        assert house.now is not None
        house.now += took_ns
        return x

    house.model.answer = slow
    queue.submit(work(1)).result(SOON_S)
    assert (queue.run_inline(work(1)) is not None) is run_inline


def test_nothing_is_computed_at_once_while_others_compute_or_wait(house: House, quick: BatchQueue) -> None:
    busy = house.occupied(quick)
    assert quick.run_inline(work(1)) is None
    waiting = quick.submit(work(2))
    assert quick.run_inline(work(1)) is None
    house.model.gate.set()
    assert values(busy.result(SOON_S)) == [2000]
    assert values(waiting.result(SOON_S)) == [4]


def test_nothing_is_computed_at_once_by_a_model_that_was_unloaded(house: House, quick: BatchQueue) -> None:
    house.pool.unload(house.target.artifact)
    assert quick.run_inline(work(1)) is None
