"""Blobs and the rows that name them come and go together."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from app.blobs import BlobStore
from app.registry import Database, Session, jobs
from app.registry.database import ALL, NOTHING, lock_blobs
from app.registry.references import is_referenced

_AT_ONCE = 100


@contextmanager
def deposit(
    database: Database, blobs: BlobStore, files: Mapping[str, Path], *, changes: str = ALL
) -> Iterator[Session]:
    """A transaction in which `files` (digest → file) become blobs, for the block to make the rows that name them.

    When the block or the commit fails, the blobs that no row names are gone again. `changes`: as `Database.writing`
    takes it.
    """
    try:
        with database.writing(changes) as session:
            lock_blobs(session)
            for digest, path in files.items():
                blobs.put(path, digest)
            yield session
    except BaseException:
        discard(database, blobs, files)
        raise
    discard(database, blobs, files)


def discard(database: Database, blobs: BlobStore, digests: Iterable[str]) -> None:
    """Remove those of the blobs that no row names (any more); what a transaction is about to name stays."""
    for some in batched(list(digests)):
        with database.writing(changes=NOTHING) as session:
            lock_blobs(session)
            for digest in some:
                if not is_referenced(session, digest):
                    blobs.delete(digest)


def batched(whole: Sequence[str]) -> Iterator[Sequence[str]]:
    """Pieces short enough for one transaction, which others wait for."""
    return (whole[start : start + _AT_ONCE] for start in range(0, len(whole), _AT_ONCE))


def discard_checkpoints(database: Database, blobs: BlobStore) -> None:
    """Remove the checkpoints of jobs that have ended. What a crash keeps this from, the next call does."""
    with database.reading() as session:
        if not jobs.ended_checkpoints(session):
            return
    with database.writing(changes=NOTHING) as session:
        lock_blobs(session)
        digests = jobs.ended_checkpoints(session)
        for digest in digests:
            if not is_referenced(session, digest):
                blobs.delete(digest)
        # The rows name the blobs until these are gone, so that none is forgotten in between.
        jobs.forget_checkpoints(session, digests)
