"""Clients that leave before their answer: what they asked for is not computed."""

import asyncio
from typing import TypeVar

from starlette.types import Receive

T = TypeVar("T")

# Most answers are there sooner, and are spared a task that watches.
_UNWATCHED_S = 0.02


async def unless_disconnected(receive: Receive, answer: "asyncio.Future[T]") -> T | None:
    """What `answer` comes to; None, with `answer` cancelled, once the client has closed its connection.

    The request's body must have been read. Raises what `answer` raises. Cancelled, it cancels `answer`.
    """
    watch: asyncio.Task[None] | None = None
    has_left = False

    async def cancel_when_left() -> None:
        nonlocal has_left
        while (await receive())["type"] != "http.disconnect":
            pass
        has_left = answer.cancel()

    def start() -> None:
        nonlocal watch
        watch = asyncio.create_task(cancel_when_left())

    timer = asyncio.get_running_loop().call_later(_UNWATCHED_S, start)
    try:
        return await answer
    except asyncio.CancelledError:
        if has_left:
            return None
        raise
    finally:
        timer.cancel()
        if watch is not None:
            watch.cancel()
