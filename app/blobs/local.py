"""Blobs in a local folder: `ab/abcdef…`."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self
from urllib.parse import unquote, urlsplit

from app.errors import Invalid, MissingBlob, NoSpace, is_full
from app.scratch import leftovers, private_folder
from app.settings import Settings

_DIGEST = re.compile("[0-9a-f]{64}")


class LocalBlobStore:
    """Content-addressed files under `folder`. A file on the same file system is moved in, others are copied."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @classmethod
    def from_url(cls, url: str, settings: Settings) -> Self:
        parts = urlsplit(url)
        if parts.netloc not in {"", "localhost"} or parts.query or parts.fragment or not parts.path.startswith("/"):
            raise Invalid("OCTET_BLOBS: a file:// URL must name an absolute path, such as file:///srv/octet/blobs")
        folder = Path(unquote(parts.path))
        try:
            return cls(folder)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise Invalid(f"OCTET_BLOBS: {str(folder)!r} cannot be used: {reason}") from error

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
            try:
                os.replace(path, target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self._copy(path, target)
            _sync(target.parent)
        except OSError as error:
            if is_full(error):
                raise NoSpace("the disk that holds the artifacts is full") from error
            raise

    def delete(self, digest: str) -> None:
        self._place(digest).unlink(missing_ok=True)

    def exists(self, digest: str) -> bool:
        return self._place(digest).is_file()

    def size(self, digest: str) -> int:
        try:
            return self._place(digest).stat().st_size
        except FileNotFoundError as error:
            raise MissingBlob(digest) from error

    def open(self, digest: str, start: int = 0, stop: int | None = None) -> BinaryIO:
        try:
            stream = self._place(digest).open("rb")
        except FileNotFoundError as error:
            raise MissingBlob(digest) from error
        stream.seek(start)
        return stream

    @contextmanager
    def materialize(self, digest: str) -> Iterator[Path]:
        if not self.exists(digest):
            raise MissingBlob(digest)
        yield self._place(digest)

    def diagnose(self, settings: Settings) -> str | None:
        if not os.access(self._folder, os.W_OK | os.X_OK):
            return f"{self._folder} cannot be written to, so uploads and jobs fail"
        if self._folder.stat().st_dev == settings.scratch_folder.stat().st_dev:
            return None
        return f"{self._folder} and {settings.scratch_folder} are on different disks, so each use copies its blobs"

    def digests(self) -> Iterator[str]:
        for place in self._folder.glob("??/*"):
            if _DIGEST.fullmatch(place.name) and place.is_file():
                yield place.name

    def _place(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest

    def _copy(self, path: Path, target: Path) -> None:
        """Move a file of another file system to `target`, which appears once it is complete."""
        for folder in leftovers(self._folder):
            shutil.rmtree(folder, ignore_errors=True)
        with private_folder(self._folder) as folder:
            copy = folder / target.name
            shutil.copy(path, copy)
            _sync(copy)
            os.replace(copy, target)
        path.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
