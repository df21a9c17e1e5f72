"""Leaving without failing anybody: a process that is told to end says so, and serves on for a while.

From SIGTERM on it is not ready, and asks clients to close their connections; new ones are still taken, since who sends
them may not have heard. Only then the server stops listening, and what is running ends.
"""

import asyncio
import logging
import signal
import threading
from types import FrameType

_log = logging.getLogger(__name__)


class Draining:
    """`active` from SIGTERM on, `over` once the server has been told to stop listening.

    `seconds`: how long the server goes on listening after SIGTERM.
    """

    def __init__(self, seconds: float) -> None:
        self.active = False
        self.over = asyncio.Event()
        self._seconds = seconds

    def watch(self) -> None:
        """Come between SIGTERM and whoever handles it by now, who hears of it once the time is up.

        To be called in the running event loop. In threads, where signals do not come, it changes nothing. A second
        SIGTERM is passed on at once.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        handler = signal.getsignal(signal.SIGTERM)

        def pass_on(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self.over.set)
            if callable(handler):
                handler(number, frame)

        def told(number: int, frame: FrameType | None) -> None:
            if self.active:
                pass_on(number, frame)
                return
            self.active = True
            _log.info("ending: not ready any more, listening for %g s", self._seconds)
            loop.call_soon_threadsafe(loop.call_later, self._seconds, pass_on, number, None)

        signal.signal(signal.SIGTERM, told)
