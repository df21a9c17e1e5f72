"""Uploads on their way in: bounded, on disk, and gone when the request ends."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastapi import UploadFile
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import TooLarge
from app.scratch import private_folder

_COPY_BYTES = 1 << 20


class BodyLimit:
    """ASGI middleware: refuses management requests whose body is over `max_bytes`, however it is sent."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/api/"):
            await self._app(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise TooLarge(f"the upload is larger than the {self._max_bytes} bytes allowed", field="file")
            return message

        await self._app(scope, counted, send)


@contextmanager
def received(file: UploadFile, scratch: Path) -> Iterator[tuple[Path, Path]]:
    """The uploaded file on disk, and a private folder to work in; both are gone after the block."""
    with private_folder(scratch) as folder:
        source = folder / "source"
        with source.open("wb") as target:
            shutil.copyfileobj(file.file, target, _COPY_BYTES)
        file.file.close()
        work = folder / "work"
        work.mkdir()
        yield source, work
