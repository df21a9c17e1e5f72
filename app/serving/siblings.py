"""The processes that serve one port together: each answers the others what it has counted.

Every process listens on a socket of its own in a folder that they share, and writes to whoever connects. So what is
told is exact at the moment, and takes no process to collect it.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

_log = logging.getLogger(__name__)

_PATIENCE_S = 2.0
_SUFFIX = ".sock"


class Siblings:
    """`tell` gives what this process says of itself. Without a `folder` there are no others."""

    def __init__(self, folder: Path | None, tell: Callable[[], bytes]) -> None:
        self._folder = folder
        self._tell = tell
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Answer from now on, in the running event loop."""
        if self._folder is not None:
            self._own.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._answer, self._own)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._own.unlink(missing_ok=True)

    def heard(self) -> list[bytes]:
        """What each of the others says; blocks. One that does not answer is left out."""
        if self._folder is None:
            return []
        others = [path for path in sorted(self._folder.glob(f"*{_SUFFIX}")) if path != self._own]
        return [said for path in others if (said := _ask(path)) is not None]

    @property
    def _own(self) -> Path:
        assert self._folder is not None
        return self._folder / f"{os.getpid()}{_SUFFIX}"

    async def _answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._tell())
        writer.close()


def _ask(path: Path) -> bytes | None:
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(_PATIENCE_S)
        try:
            asking.connect(str(path))
            return b"".join(iter(lambda: asking.recv(1 << 16), b""))
        except ConnectionRefusedError:
            # It was killed: nobody else removes its socket.
            path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("a process that serves with this one does not answer: %s", error)
    return None
