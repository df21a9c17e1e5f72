import logging
import threading

import pytest

from app.periodic import Periodic

_LONG_S = 3600.0


def test_it_is_called_at_once_and_again_when_woken() -> None:
    called = threading.Semaphore(0)
    periodic = Periodic("test", _LONG_S, called.release)
    periodic.start()
    assert called.acquire(timeout=30)
    for _ in range(3):
        periodic.wake()
        assert called.acquire(timeout=30)
    periodic.stop()
    assert not called.acquire(blocking=False)


def test_it_is_called_every_so_often() -> None:
    called = threading.Semaphore(0)
    periodic = Periodic("test", 0.001, called.release)
    periodic.start()
    assert all(called.acquire(timeout=30) for _ in range(5))
    periodic.stop()


def test_waking_during_a_call_brings_another() -> None:
    begun, go_on = threading.Semaphore(0), threading.Event()

    def work() -> None:
        begun.release()
        go_on.wait()

    periodic = Periodic("test", _LONG_S, work)
    periodic.start()
    assert begun.acquire(timeout=30)
    periodic.wake()
    go_on.set()
    assert begun.acquire(timeout=30)
    periodic.stop()


def test_stopping_waits_for_the_call_that_runs() -> None:
    begun, ended = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        periodic._stopping.wait()
        ended.set()

    periodic = Periodic("test", _LONG_S, work)
    periodic.start()
    begun.wait()
    periodic.stop()
    assert ended.is_set()


def test_stopping_what_never_started_is_harmless() -> None:
    Periodic("test", _LONG_S, lambda: None).stop()


def test_failures_end_nothing_and_are_logged_once_in_a_row(caplog: pytest.LogCaptureFixture) -> None:
    outcomes = iter([OSError("away"), OSError("away"), None, OSError("away again")])

    def work() -> None:
        error = next(outcomes)
        if error is not None:
            raise error

    periodic = Periodic("upkeep", _LONG_S, work)
    caplog.set_level(logging.WARNING)
    for _ in range(4):
        periodic.once()
    assert [record.getMessage() for record in caplog.records] == [
        "upkeep failed, and will be tried again: away",
        "upkeep failed, and will be tried again: away again",
    ]
