"""Clients that leave before their answer: what they asked for is not computed."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

T = TypeVar("T")

# Most answers are there sooner, and are spared a second task.
_UNWATCHED_S = 0.02


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """What `work` returns or raises; None, with `work` cancelled, once the client has closed its connection.

    The request's body must have been read.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait([task], timeout=_UNWATCHED_S)
        if not task.done():
            await _until_done_or_gone(task, request)
        return task.result() if task.done() else None
    finally:
        task.cancel()


async def _until_done_or_gone(task: "asyncio.Task[T]", request: Request) -> None:
    leaving = asyncio.create_task(_left(request))
    try:
        await asyncio.wait([task, leaving], return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
