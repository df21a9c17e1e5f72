"""Throws away what nothing refers to any more. Safe beside a running service: what is in the making is spared."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from app.blobs import BlobStore
from app.intake.deposit import discard, discard_checkpoints
from app.intake.leftovers import orphaned_job_folders
from app.registry import Database, jobs
from app.registry.references import referenced
from app.registry.tables import now
from app.scratch import leftovers

#: Blobs looked at under one lock, which uploads and jobs wait for.
_AT_ONCE = 100


@dataclass(frozen=True)
class Garbage:
    """What was found, and removed unless it was only to be looked for."""

    blobs: int
    blob_bytes: int
    folders: int
    jobs: int


def collect(
    database: Database, blobs: BlobStore, scratch: Path, *, jobs_older_than: timedelta, dry_run: bool = False
) -> Garbage:
    """Remove blobs that no row names, jobs that ended so long ago, and folders of processes that are gone.

    `dry_run`: only look. A blob that an upload or a job is about to name is held by its transaction, and stays.
    """
    with database.reading() as session:
        named = referenced(session)
        old_jobs = jobs.ended_before(session, now() - jobs_older_than)
    unnamed = [digest for digest in blobs.digests() if digest not in named]
    blob_bytes = sum(_size(blobs, digest) for digest in unnamed)
    folders = [*leftovers(scratch), *orphaned_job_folders(database, scratch)]
    if not dry_run:
        # The jobs first: the checkpoints that they still name are blobs, too.
        for some in _pieces(old_jobs):
            with database.writing() as session:
                jobs.forget(session, some)
        discard_checkpoints(database, blobs)
        for some in _pieces(unnamed):
            discard(database, blobs, some)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
    return Garbage(len(unnamed), blob_bytes, len(folders), len(old_jobs))


def _pieces(whole: Sequence[str]) -> Iterator[Sequence[str]]:
    return (whole[start : start + _AT_ONCE] for start in range(0, len(whole), _AT_ONCE))


def _size(blobs: BlobStore, digest: str) -> int:
    try:
        return blobs.path(digest).stat().st_size
    except FileNotFoundError:
        return 0
