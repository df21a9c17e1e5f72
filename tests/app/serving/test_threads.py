import logging
import threading

import pytest

from app.serving.threads import ComputeThreads
from app.serving.timer import Timer

SOON_S = 30


def test_no_more_turns_are_had_at_once_than_there_are_seats() -> None:
    threads = ComputeThreads(2)
    lock, run_inline, most = threading.Lock(), 0, 0
    done = threading.Semaphore(0)

    def turn() -> None:
        nonlocal run_inline, most
        with lock:
            run_inline += 1
            most = max(most, run_inline)
        with lock:
            run_inline -= 1
        done.release()

    for _ in range(200):
        threads.submit(turn)
        if threads.borrow():
            turn()
            threads.give_back()
        else:
            done.release()
    for _ in range(400):
        assert done.acquire(timeout=SOON_S)
    assert most <= 2
    threads.close()
    assert threads.idle() == 2


def test_a_borrowed_seat_is_not_had_twice() -> None:
    threads = ComputeThreads(1)
    assert threads.borrow()
    assert not threads.borrow()
    ran = threading.Event()
    threads.submit(ran.set)
    assert not ran.wait(0.01)
    threads.give_back()
    assert ran.wait(SOON_S)
    threads.close()


def test_a_turn_that_fails_is_logged_and_the_thread_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    threads = ComputeThreads(1)
    ran = threading.Event()
    with caplog.at_level(logging.ERROR):
        threads.submit(lambda: 1 // 0)
        threads.submit(ran.set)
        assert ran.wait(SOON_S)
    assert "ZeroDivisionError" in caplog.text
    threads.close()


def test_an_alarm_calls_in_the_order_in_which_things_are_due() -> None:
    timer = Timer(clock=lambda: 100)
    called: list[str] = []
    all_called = threading.Event()
    timer.at(10**15, lambda: called.append("never"))
    timer.at(90, lambda: called.append("first"))
    timer.at(95, lambda: 1 // 0)
    timer.at(100, all_called.set)
    assert all_called.wait(SOON_S)
    assert called == ["first"]
    timer.close()
