"""The protocol of a blob store. The name of a blob is the sha256 of its content, in hex."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from app.settings import Settings


class BlobStore(Protocol):
    """Keeps blobs, on this machine or elsewhere.

    Blobs never change, so readers need no locks. Callers add and remove blobs under the lock of the registry
    (`database.lock_blobs`). Methods may be called from several threads and processes at once.

    To add a store, write one file with a class that has these methods, and add its row to `app.blobs.stores.STORES`.
    """

    @classmethod
    def from_url(cls, url: str, settings: Settings) -> Self:
        """Open the store that `url` names.

        Raises:
            Invalid: The URL has a part that this kind of store does not understand.
        """
        ...

    def put(self, path: Path, digest: str) -> None:
        """Move the file at `path`, whose content has `digest`, into the store.

        The blob is complete and durable when this returns. When this raises, there is no new blob. The caller holds
        the lock of the registry, so a slow store delays other uploads and the ends of jobs.

        Raises:
            NoSpace: The store is full.
        """
        ...

    def delete(self, digest: str) -> None:
        """Remove the blob; do nothing when there is none. Open streams stay valid, and so do links (see `linked`)."""
        ...

    def exists(self, digest: str) -> bool:
        """Return whether the store has the blob."""
        ...

    def size(self, digest: str) -> int:
        """Return the size of the blob in bytes.

        Raises:
            MissingBlob: The store has no such blob.
        """
        ...

    def open(self, digest: str, start: int = 0, stop: int | None = None) -> BinaryIO:
        """Open a stream of the bytes from `start` up to `stop`, or to the end of the blob.

        The caller reads no further than `stop`; the stream may go on after it.

        Raises:
            MissingBlob: The store has no such blob.
        """
        ...

    def materialize(self, digest: str) -> AbstractContextManager[Path]:
        """Lease a local file that holds the blob; the file is read-only.

        The path and its content are valid until the block ends. A store that hands out its own file may lose the path
        earlier, when the blob is deleted: use `linked` for a file that stays, under a name of your own.

        Raises:
            MissingBlob: The store has no such blob.
            NoSpace: The store copies blobs to this machine, and the disk is full.
        """
        ...

    def diagnose(self, settings: Settings) -> str | None:
        """Return what an operator should change about the store, for `octet doctor`; None when all is well."""
        ...

    def digests(self) -> Iterator[str]:
        """Iterate over all blobs. Blobs that come or go meanwhile may be included or not."""
        ...
