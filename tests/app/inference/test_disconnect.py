import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pytest

from app.inference.disconnect import unless_disconnected

T = TypeVar("T")


async def asked(receive: Callable[[], Awaitable[dict[str, Any]]], work: Coroutine[Any, Any, T]) -> T | None:
    return await unless_disconnected(receive, asyncio.ensure_future(work))


async def still_there() -> dict[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


async def leaves() -> dict[str, Any]:
    return {"type": "http.disconnect"}


def test_an_answer_comes_through_late_or_soon() -> None:
    async def answer(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "answer"

    for seconds in (0, 0.05):
        assert asyncio.run(asked(still_there, answer(seconds))) == "answer"


def test_an_error_comes_through() -> None:
    async def fail() -> None:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        asyncio.run(asked(still_there, fail()))


def test_the_work_of_a_client_that_left_is_cancelled() -> None:
    cancelled = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def ask() -> None:
        assert await asked(leaves, work()) is None
        await asyncio.sleep(0)

    asyncio.run(ask())
    assert cancelled == [True]


def test_work_is_cancelled_with_its_request() -> None:
    cancelled = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def ask() -> None:
        asking = asyncio.create_task(asked(still_there, work()))
        await asyncio.sleep(0.05)
        asking.cancel()
        await cancelled.wait()

    asyncio.run(ask())
