"""Throws away what nothing refers to any more. Safe beside a running service: what is in the making is spared."""

import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from app.blobs import BlobStore
from app.errors import MissingBlob
from app.intake.deposit import batched, discard, discard_checkpoints
from app.intake.leftovers import orphaned_job_folders, unnamed_blobs
from app.registry import Database, jobs
from app.registry.tables import now
from app.scratch import leftovers


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
        old_jobs = jobs.ended_before(session, now() - jobs_older_than)
    unnamed = unnamed_blobs(database, blobs)
    blob_bytes = sum(_size(blobs, digest) for digest in unnamed)
    folders = [*leftovers(scratch), *orphaned_job_folders(database, scratch)]
    if not dry_run:
        # The jobs first: the checkpoints that they still name are blobs, too.
        for some in batched(old_jobs):
            with database.writing() as session:
                jobs.forget(session, some)
        discard_checkpoints(database, blobs)
        discard(database, blobs, unnamed)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
    return Garbage(len(unnamed), blob_bytes, len(folders), len(old_jobs))


def _size(blobs: BlobStore, digest: str) -> int:
    try:
        return blobs.size(digest)
    except MissingBlob:
        return 0
