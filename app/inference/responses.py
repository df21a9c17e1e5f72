"""Answers of inference on their way out: JSON, then binary tensors as they lie in memory."""

from collections.abc import Sequence

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

Chunk = bytes | memoryview

#: Up to this size, one copy costs less than one more write to the socket.
_JOINED_BYTES = 1 << 16


class JsonResponse(Response):
    media_type = "application/json"

    def render(self, content: object) -> bytes:
        return orjson.dumps(content)


class PiecesResponse(Response):
    """A body in pieces, of known length, handed to the server one by one without being joined.

    `headers` have lower-case names; the length is added to them.
    """

    def __init__(self, pieces: Sequence[Chunk], headers: list[tuple[bytes, bytes]]) -> None:
        size = sum(len(piece) for piece in pieces)
        self._pieces = [b"".join(pieces)] if size <= _JOINED_BYTES else [piece for piece in pieces if len(piece)]
        self.status_code = 200
        self.background = None
        self.raw_headers = [*headers, (b"content-length", b"%d" % size)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        last = len(self._pieces) - 1
        for number, piece in enumerate(self._pieces):
            await send({"type": "http.response.body", "body": piece, "more_body": number < last})
