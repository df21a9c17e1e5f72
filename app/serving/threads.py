"""The threads that compute: as many at once as there are cores to use, whoever's requests they are."""

import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

_log = logging.getLogger(__name__)


class ComputeThreads:
    """`count` seats; a turn takes one, in a thread of this pool or, borrowed, in the thread of a caller that may block.

    Turns are taken in the order in which they were asked for. The threads start with the first turn.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        # Queues of the standard library that wait outside of Python: handing over takes a few microseconds.
        self._turns: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._seats: SimpleQueue[None] = SimpleQueue()
        for _ in range(count):
            self._seats.put(None)
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def submit(self, turn: Callable[[], None]) -> None:
        """Have `turn` called in a thread. It answers for its errors itself; one that it lets out is logged."""
        self._turns.put(turn)
        if not self._threads:
            self._start()

    def borrow(self) -> bool:
        """Take a seat for the calling thread, if one is free and nobody waits for it; then `give_back` it."""
        if not self._turns.empty():
            return False
        try:
            self._seats.get_nowait()
        except Empty:
            return False
        return True

    def give_back(self) -> None:
        self._seats.put(None)

    def idle(self) -> int:
        """Seats that nobody has just now."""
        return self._seats.qsize()

    def close(self) -> None:
        """End the threads once the turns that were asked for are taken."""
        with self._lock:
            for _ in self._threads:
                self._turns.put(None)
            for thread in self._threads:
                thread.join()
            self._threads = []

    def _start(self) -> None:
        with self._lock:
            if self._threads:
                return
            self._threads = [
                threading.Thread(target=self._work, name=f"octet-compute-{number}", daemon=True)
                for number in range(self.count)
            ]
            for thread in self._threads:
                thread.start()

    def _work(self) -> None:
        while (turn := self._turns.get()) is not None:
            self._seats.get()
            try:
                turn()
            except BaseException:  # noqa: BLE001 - logged; the thread serves others too
                _log.exception("a turn failed")
            finally:
                self._seats.put(None)
            # Else an idle thread would keep alive what it computed last.
            del turn


def lower_priority() -> None:
    """Have the kernel prefer threads that answer requests to this one; where threads have priorities of their own.

    Where all cores are busy it gets 1.5% of one, in slices of some milliseconds: few enough of them to leave the 99th
    percentile of others nearly alone. Cores to spare it gets whole.
    """
    if hasattr(os, "setpriority") and hasattr(threading, "get_native_id") and os.uname().sysname == "Linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


def only_when_idle() -> None:
    """As `lower_priority`, for what nobody waits for: a thread that is woken takes the core from this one at once.

    A low priority alone does not do that: once it computes, it keeps its slice of some milliseconds. Where all cores
    are busy it gets next to nothing.
    """
    lower_priority()
    if hasattr(os, "SCHED_IDLE"):
        with suppress(OSError):
            os.sched_setscheduler(threading.get_native_id(), os.SCHED_IDLE, os.sched_param(0))
