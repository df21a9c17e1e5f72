"""Folders for what is not yet, or never, kept: gone with their block, at the latest when the gateway starts again."""

import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = "gateway"


@contextmanager
def private_folder(scratch: Path) -> Iterator[Path]:
    """A new folder under `scratch`, which is removed after the block with all that is in it."""
    folder = scratch / f"{_PREFIX}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(scratch: Path) -> None:
    """Remove what killed gateways of this host left behind."""
    for folder in scratch.glob(f"{_PREFIX}-{socket.gethostname()}-*"):
        process = folder.name.rsplit("-", 2)[1]
        if not process.isdigit() or int(process) == os.getpid() or not Path(f"/proc/{process}").exists():
            shutil.rmtree(folder, ignore_errors=True)
