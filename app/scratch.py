"""Folders for what is not yet, or never, kept: gone with their block, at the latest when the gateway starts again."""

import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "gateway"
_JOB_PREFIX = "job-"
_FAILED_JOBS = "failed-jobs"


@contextmanager
def private_folder(scratch: Path) -> Iterator[Path]:
    """A new folder under `scratch`, which is removed after the block with all that is in it."""
    folder = scratch / f"{_PREFIX}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def leftovers(scratch: Path) -> Iterator[Path]:
    """What killed gateways and commands of this host left behind."""
    for folder in scratch.glob(f"{_PREFIX}-{socket.gethostname()}-*"):
        process = folder.name.rsplit("-", 2)[1]
        if not process.isdigit() or not Path(f"/proc/{process}").exists():
            yield folder


def remove_leftovers(scratch: Path) -> None:
    """Remove `leftovers`, when a process starts: what seems to be of itself is of one that had its number before."""
    own = scratch.glob(f"{_PREFIX}-{socket.gethostname()}-{os.getpid()}-*")
    for folder in (*leftovers(scratch), *own):
        shutil.rmtree(folder, ignore_errors=True)


def job_folder(scratch: Path, token: str) -> Path:
    """Where the holder of the lease `token` does its job."""
    return scratch / f"{_JOB_PREFIX}{token}"


def job_folders(scratch: Path) -> dict[str, Path]:
    """All such folders, by token."""
    return {folder.name.removeprefix(_JOB_PREFIX): folder for folder in scratch.glob(f"{_JOB_PREFIX}*")}


def failed_job_folder(home: Path, job_id: str) -> Path:
    """Where the folder of a failed job is kept, if failed jobs are kept at all."""
    return home / _FAILED_JOBS / job_id


def failed_job_folders(home: Path) -> list[Path]:
    """All such folders, the oldest first; their names are the ids of the jobs."""
    found = []
    for folder in (home / _FAILED_JOBS).glob("*"):
        # Another worker may remove it at any time.
        with suppress(FileNotFoundError):
            found.append((folder.stat().st_mtime_ns, folder))
    return [folder for _, folder in sorted(found)]
