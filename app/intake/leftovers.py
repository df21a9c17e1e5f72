"""What lies about of those who are gone."""

from pathlib import Path

from app.registry import Database, jobs
from app.scratch import job_folders


def orphaned_job_folders(database: Database, scratch: Path) -> list[Path]:
    """Folders of jobs whose worker was killed: no lease names them any more."""
    # A lease is there before its folder, so one that is asked for later covers all that was found.
    folders = job_folders(scratch)
    if not folders:
        return []
    with database.reading() as session:
        held = jobs.held_tokens(session)
    return [folder for token, folder in folders.items() if token not in held]
