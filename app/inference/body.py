"""Bodies on their way in: bounded in size and in time, and held once."""

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import Request

from app.errors import Invalid, TooLarge


async def received(request: Request, *, max_bytes: int, seconds: float) -> memoryview:
    """The whole body, read-only.

    Raises `TooLarge` once more than `max_bytes` are announced or have come, `Invalid` when the client goes away, and
    408 when the body has not ended after `seconds`: a client that dawdles holds memory, though no thread.
    """
    announced = request.headers.get("Content-Length", "0")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    try:
        async with asyncio.timeout(seconds):
            return await _gathered(request, max_bytes)
    except TimeoutError as error:
        raise HTTPException(
            408, f"the body did not come within {seconds:g} seconds", {"Connection": "close"}
        ) from error


async def _gathered(request: Request, max_bytes: int) -> memoryview:
    message = await request.receive()
    first = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body", False) and len(first) <= max_bytes:
        return memoryview(first)  # most bodies come in one piece, and are not copied
    pieces: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise Invalid("the client went away before the body ended")
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > max_bytes:
            raise _too_large(max_bytes)
        if not message.get("more_body", False):
            return memoryview(b"".join(pieces))
        message = await request.receive()


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"the body is larger than the {max_bytes} bytes that a request may have")
