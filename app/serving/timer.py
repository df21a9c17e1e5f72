"""One thread that calls what is due: for queues that wait a while for company, and for those who waited too long."""

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Timer:
    """Its thread starts with the first call of `at`. What it calls must be quick."""

    def __init__(self, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._closed = False

    def at(self, when_ns: int, call: Callable[[], None]) -> None:
        """Call `call` when the clock shows `when_ns`, or soon after."""
        with self._changed:
            heapq.heappush(self._due, (when_ns, next(self._numbers), call))
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._work, name="octet-timer", daemon=True)
                self._thread.start()
            elif self._due[0][0] == when_ns:
                self._changed.notify()

    def close(self) -> None:
        """Call nothing any more."""
        with self._changed:
            self._closed = True
            self._due.clear()
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (not self._due or self._due[0][0] > self._clock()):
                    wait_ns = self._due[0][0] - self._clock() if self._due else None
                    self._changed.wait(None if wait_ns is None else max(wait_ns, 0) / 1e9)
                if self._closed:
                    return
                call = heapq.heappop(self._due)[2]
            try:
                call()
            except Exception:  # noqa: BLE001 - logged; the thread serves others too
                _log.exception("a call that was due failed")
            del call
