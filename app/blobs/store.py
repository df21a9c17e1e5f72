"""What a store of content-addressed bytes offers; a blob's name is the sha256 of its content, in hex."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol


class BlobStore(Protocol):
    """Blobs never change, so readers need no locks. Who may add or remove is decided by the registry's lock."""

    def put(self, path: Path, digest: str) -> None:
        """Take the file at `path`, whose content has `digest`, into the store; the file at `path` is gone after.

        The blob is whole and on disk when this returns, or absent. Raises `NoSpace` when the disk is full.
        """
        ...

    def delete(self, digest: str) -> None:
        """Remove the blob; nothing happens when there is none."""
        ...

    def path(self, digest: str) -> Path:
        """A local file with the blob's content, to be read only. Raises `FileNotFoundError` when there is none."""
        ...

    def link(self, digest: str, target: Path) -> None:
        """Make the blob's content appear at `target`, without copying it where the store can. To be read only."""
        ...

    def digests(self) -> Iterator[str]:
        """Of all blobs that are there; those that come or go meanwhile may be among them or not."""
        ...
