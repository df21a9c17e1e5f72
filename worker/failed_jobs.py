"""The folders of failed jobs that are kept for whoever looks for the reason: `failed-jobs/JOB_ID` under the home."""

import logging
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from app.scratch import failed_job_folder, failed_job_folders

#: Below this share of free blocks or free inodes on the disk, no folder is kept.
_LEAST_FREE = 0.05

_log = logging.getLogger(__name__)


class FailedJobs:
    """Keeps the newest `count` folders. Several workers may share them."""

    def __init__(self, home: Path, count: int) -> None:
        self._home = home
        self._count = count

    def keep(self, folder: Path, job_id: str) -> Path | None:
        """Move the job's folder to the kept ones; where that is not wanted, or the disk is nearly full, remove it.

        Returns:
            Where the folder is now; None when it is removed.
        """
        kept = None
        if self._count > 0 and folder.is_dir() and self._has_space():
            kept = failed_job_folder(self._home, job_id)
            try:
                kept.parent.mkdir(exist_ok=True)
                shutil.rmtree(kept, ignore_errors=True)
                folder.rename(kept)
                os.utime(kept)
            except OSError as error:
                _log.warning("the folder of failed job %s is not kept: %s", job_id, error)
                kept = None
        # Before the job's folder goes: where that one filled the disk, its space would hide what the kept ones take.
        self.trim()
        shutil.rmtree(folder, ignore_errors=True)
        return kept if kept is not None and kept.is_dir() else None

    def job_ids(self) -> list[str]:
        """The jobs whose folders are kept, the oldest first."""
        return [folder.name for folder in failed_job_folders(self._home)]

    def remove(self, job_ids: Collection[str]) -> None:
        """Remove the folders of these jobs."""
        for job_id in job_ids:
            shutil.rmtree(failed_job_folder(self._home, job_id), ignore_errors=True)

    def trim(self) -> None:
        """Remove the oldest folders that are too many, or fill the disk."""
        job_ids = self.job_ids()
        while job_ids and (len(job_ids) > self._count or not self._has_space()):
            self.remove([job_ids.pop(0)])

    def _has_space(self) -> bool:
        disk = os.statvfs(self._home)
        return disk.f_bavail >= _LEAST_FREE * disk.f_blocks and disk.f_favail >= _LEAST_FREE * disk.f_files
