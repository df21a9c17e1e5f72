"""What lies about of those who are gone."""

from pathlib import Path

from app.blobs import BlobStore
from app.registry import Database, jobs
from app.registry.references import referenced
from app.scratch import job_folders


def unnamed_blobs(database: Database, blobs: BlobStore) -> list[str]:
    """Blobs that no row names: of processes that were killed after they stored them, or that are about to name them."""
    with database.reading() as session:
        named = referenced(session)
    return [digest for digest in blobs.digests() if digest not in named]


def orphaned_job_folders(database: Database, scratch: Path) -> list[Path]:
    """Folders of jobs whose worker was killed: no lease names them any more."""
    # A lease is there before its folder, so one that is asked for later covers all that was found.
    folders = job_folders(scratch)
    if not folders:
        return []
    with database.reading() as session:
        held = jobs.held_tokens(session)
    return [folder for token, folder in folders.items() if token not in held]
