"""Blobs in a local folder: `ab/abcdef…`."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from app.errors import NoSpace, is_full

_DIGEST = re.compile("[0-9a-f]{64}")


class LocalBlobStore:
    """Content-addressed files under `folder`. What is put must lie on the same filesystem to be moved at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, path: Path, digest: str) -> None:
        target = self._place(digest)
        if target.exists():
            path.unlink()
            return
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            # Renamed only once its bytes are on disk: a crash leaves the whole blob or none.
            _sync(path)
            # Jobs see blobs under names of their own; what runs there must not change them.
            path.chmod(0o444)
            os.replace(path, target)
            _sync(target.parent)
        except OSError as error:
            if is_full(error):
                raise NoSpace("the disk that holds the artifacts is full") from error
            raise

    def delete(self, digest: str) -> None:
        self._place(digest).unlink(missing_ok=True)

    def path(self, digest: str) -> Path:
        place = self._place(digest)
        if not place.is_file():
            raise FileNotFoundError(digest)
        return place

    def link(self, digest: str, target: Path) -> None:
        try:
            os.link(self.path(digest), target)
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.EPERM, errno.EMLINK}:
                raise
            shutil.copyfile(self.path(digest), target)

    def digests(self) -> Iterator[str]:
        for place in self._folder.glob("??/*"):
            if _DIGEST.fullmatch(place.name) and place.is_file():
                yield place.name

    def _place(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
