"""What a lane computes in the thread that asks, and what it does not."""

import threading

import pytest

from app.engines.engine import Array
from app.errors import DeadlineUnmet, Invalid
from app.serving.lane import Lane
from tests.app.serving.lanes import BAD, SOON_S, House, values, work


@pytest.fixture
def quick(house: House) -> Lane:
    """A lane whose runs are known to take next to no time."""
    lane = house.lane(steady=True)
    lane.submit(work(1)).result(SOON_S)
    return lane


def test_what_is_over_at_once_is_computed_in_the_calling_thread(house: House, quick: Lane) -> None:
    threads: list[threading.Thread] = []

    def note(x: Array) -> Array:
        threads.append(threading.current_thread())
        return x

    house.model.answer = note
    answer = quick.at_once(work(3, timeout_us=1000))
    assert answer is not None
    assert values(answer) == [3]
    assert answer.timing.batch_rows == 1
    assert threads == [threading.current_thread()]
    assert house.tally().rows == 2


def test_an_error_of_what_is_computed_at_once_is_raised(house: House, quick: Lane) -> None:
    with pytest.raises(Invalid, match="refused"):
        quick.at_once(work(BAD))
    assert house.tally().fail.count == 1
    with pytest.raises(DeadlineUnmet):
        quick.at_once(work(1, timeout_us=0))


def test_nothing_is_computed_at_once_by_a_model_whose_runs_take_as_long_as_its_inputs_say(house: House) -> None:
    lane = house.lane(steady=False)
    lane.submit(work(1)).result(SOON_S)
    assert lane.at_once(work(1)) is None


def test_nothing_is_computed_at_once_before_it_is_known_to_be_quick(house: House) -> None:
    assert house.lane(steady=True).at_once(work(1)) is None


@pytest.mark.parametrize(
    ("threads", "took_ns", "at_once"), [(1, 200_000, True), (2, 200_000, False), (1, 300_000, False)]
)
def test_nothing_slow_is_computed_at_once(house: House, threads: int, took_ns: int, at_once: bool) -> None:
    house.now = 0
    lane = house.lane(steady=True, threads=threads)

    def slow(x: Array) -> Array:
        assert house.now is not None
        house.now += took_ns
        return x

    house.model.answer = slow
    lane.submit(work(1)).result(SOON_S)
    assert (lane.at_once(work(1)) is not None) is at_once


def test_nothing_is_computed_at_once_while_others_compute_or_wait(house: House, quick: Lane) -> None:
    busy = house.occupied(quick)
    assert quick.at_once(work(1)) is None
    waiting = quick.submit(work(2))
    assert quick.at_once(work(1)) is None
    house.model.gate.set()
    assert values(busy.result(SOON_S)) == [2000]
    assert values(waiting.result(SOON_S)) == [4]


def test_nothing_is_computed_at_once_by_a_model_that_was_unloaded(house: House, quick: Lane) -> None:
    house.pool.unload(house.target.artifact)
    assert quick.at_once(work(1)) is None
