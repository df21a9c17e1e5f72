"""Blobs and the rows that name them come and go together."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from app.blobs import BlobStore
from app.registry import Database, Session
from app.registry.database import lock_blobs
from app.registry.references import is_referenced


@contextmanager
def deposit(database: Database, blobs: BlobStore, files: Mapping[str, Path]) -> Iterator[Session]:
    """A transaction in which `files` (digest → file) become blobs, for the block to make the rows that name them.

    When the block or the commit fails, the blobs that no row names are gone again.
    """
    try:
        with database.writing() as session:
            lock_blobs(session)
            for digest, path in files.items():
                blobs.put(path, digest)
            yield session
    except BaseException:
        discard(database, blobs, files)
        raise
    discard(database, blobs, files)


def discard(database: Database, blobs: BlobStore, digests: Iterable[str]) -> None:
    """Remove those of the blobs that no row names (any more)."""
    with database.writing() as session:
        lock_blobs(session)
        for digest in digests:
            if not is_referenced(session, digest):
                blobs.delete(digest)
