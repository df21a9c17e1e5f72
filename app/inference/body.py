"""Bodies on their way in: bounded in size and in time, and held once."""

import asyncio
import types
from collections.abc import Coroutine, Generator, Mapping
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.types import Receive

from app.errors import Invalid, TooLarge

T = TypeVar("T")


async def received(headers: Mapping[bytes, bytes], receive: Receive, *, max_bytes: int, seconds: float) -> bytes:
    """The whole body.

    Raises `TooLarge` once more than `max_bytes` are announced or have come, `Invalid` when the client goes away, and
    408 when the body has not ended after `seconds`: a client that dawdles holds memory, though no thread.
    """
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    gathering = _gathered(receive, max_bytes)
    try:
        first = gathering.send(None)
    except StopIteration as done:
        # Most bodies are there with their head: nothing is waited for, so no time needs to be limited.
        body: bytes = done.value
        return body
    try:
        async with asyncio.timeout(seconds):
            return await _resumed(gathering, first)
    except TimeoutError as error:
        raise HTTPException(
            408, f"the body did not come within {seconds:g} seconds", {"Connection": "close"}
        ) from error


@types.coroutine
def _resumed(coroutine: Coroutine[Any, Any, T], waits_for: Any) -> Generator[Any, Any, T]:
    """Await what is left of a coroutine that was started, and then asked to wait for `waits_for`."""
    try:
        while True:
            try:
                sent = yield waits_for
            except BaseException as error:  # noqa: BLE001 - for the coroutine to handle, a cancellation too
                waits_for = coroutine.throw(error)
            else:
                waits_for = coroutine.send(sent)
    except StopIteration as done:
        result: T = done.value
        return result


async def _gathered(receive: Receive, max_bytes: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Invalid("the client went away before the body ended")
        piece: bytes = message.get("body", b"")
        size += len(piece)
        if size > max_bytes:
            raise _too_large(max_bytes)
        if not message.get("more_body", False):
            # Most bodies come in one piece, and are not copied.
            return b"".join([*pieces, piece]) if pieces else piece
        pieces.append(piece)


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"the body is larger than the {max_bytes} bytes that a request may have")
