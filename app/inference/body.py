"""Bodies on their way in: bounded in size and in time, and held once."""

import asyncio
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.types import Receive

from app.errors import Invalid, TooLarge


async def received(headers: Mapping[bytes, bytes], receive: Receive, *, max_bytes: int, seconds: float) -> bytes:
    """The whole body.

    Raises `TooLarge` once more than `max_bytes` are announced or have come, `Invalid` when the client goes away, and
    408 when the body has not ended after `seconds`: a client that dawdles holds memory, though no thread.
    """
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    try:
        async with asyncio.timeout(seconds):
            return await _gathered(receive, max_bytes)
    except TimeoutError as error:
        raise HTTPException(
            408, f"the body did not come within {seconds:g} seconds", {"Connection": "close"}
        ) from error


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
