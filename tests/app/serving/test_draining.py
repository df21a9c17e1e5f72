import asyncio
import os
import signal
import threading
from types import FrameType

from app.serving.draining import Draining


class Handled:
    """A handler of SIGTERM as a server has one."""

    def __init__(self) -> None:
        self.heard = asyncio.Event()
        self._before = signal.signal(signal.SIGTERM, self._hear)

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        self.heard.set()

    def restore(self) -> None:
        signal.signal(signal.SIGTERM, self._before)


def test_the_server_hears_of_it_only_after_the_process_said_that_it_leaves() -> None:
    async def scenario() -> None:
        handled = Handled()
        try:
            draining = Draining(0.05)
            draining.watch()
            assert not draining.active
            os.kill(os.getpid(), signal.SIGTERM)
            while not draining.active:
                await asyncio.sleep(0)
            assert not handled.heard.is_set()
            assert not draining.over.is_set()
            await asyncio.wait_for(handled.heard.wait(), 30)
            await asyncio.wait_for(draining.over.wait(), 30)
        finally:
            handled.restore()

    asyncio.run(scenario())


def test_a_second_signal_is_passed_on_at_once() -> None:
    async def scenario() -> None:
        handled = Handled()
        try:
            draining = Draining(3600)
            draining.watch()
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGTERM)
                await asyncio.sleep(0)
            await asyncio.wait_for(handled.heard.wait(), 30)
        finally:
            handled.restore()

    asyncio.run(scenario())


def test_in_a_thread_it_changes_nothing() -> None:
    before = signal.getsignal(signal.SIGTERM)

    async def watch() -> None:
        Draining(1).watch()

    thread = threading.Thread(target=lambda: asyncio.run(watch()))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before
