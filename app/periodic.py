"""Work that is done every so often, in a thread of its own."""

import logging
import threading
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Periodic:
    """A thread that calls `work` at its start and every `seconds` from then on, until it is stopped.

    Whatever `work` raises is logged, and it is called again: a registry or a broker that is away comes back. Of a row
    of failures the first is a warning, so that logs are not filled with the others.
    """

    def __init__(self, name: str, seconds: float, work: Callable[[], object]) -> None:
        self._name = name
        self._seconds = seconds
        self._work = work
        self._failing = False
        self._awake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"octet-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Have the next call now, or right after the present one; returns at once."""
        self._awake.set()

    def stop(self) -> None:
        """Return once the present call has ended, or after 10 seconds; harmless where it was never started."""
        self._stopping.set()
        self._awake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def once(self) -> None:
        """Call `work` in the calling thread, as the thread does: what it raises is logged."""
        try:
            self._work()
        except Exception as error:  # noqa: BLE001 - each driver raises its own, and this thread outlives them all
            level = logging.DEBUG if self._failing else logging.WARNING
            _log.log(level, "%s failed, and will be tried again: %s", self._name, error, exc_info=True)
            self._failing = True
        else:
            self._failing = False

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._awake.clear()
            self.once()
            # A stop that came before the event was cleared is seen here; one that comes later sets it again.
            if not self._stopping.is_set():
                self._awake.wait(self._seconds)
