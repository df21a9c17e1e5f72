"""What a job has reached, kept where the next attempt finds it should this worker die."""

import hashlib
import logging
import os
import threading
from contextvars import copy_context
from pathlib import Path

from app.blobs import BlobStore
from app.errors import JobFailed
from app.intake.deposit import deposit, discard
from app.registry import Database, jobs
from app.registry.jobs import Lease

_CHUNK_BYTES = 1 << 20

_log = logging.getLogger(__name__)


class Checkpoints:
    """Puts the checkpoints of one job into the blob store, on a thread of its own: no heartbeat waits for a disk.

    That one could not be kept costs a later attempt some time and is logged; it never fails the job.
    """

    def __init__(self, database: Database, blobs: BlobStore, lease: Lease, folder: Path) -> None:
        self._database = database
        self._blobs = blobs
        self._lease = lease
        self._folder = folder
        self._newest: str | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def keep(self, name: str) -> None:
        """Have the file `name` of the job's folder kept, unless a newer one is announced before its turn comes."""
        with self._lock:
            self._newest = name
            if self._thread is None:
                # With this thread's context, the lines that it logs name the job.
                run = copy_context().run
                self._thread = threading.Thread(target=run, args=(self._keep_all,), name="checkpoints", daemon=True)
                self._thread.start()

    def end(self) -> None:
        """Give up what is not kept yet. The job's folder is left alone from here on."""
        self._ended.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _keep_all(self) -> None:
        while (name := self._next()) is not None:
            try:
                self._keep(name)
            except Exception as error:  # noqa: BLE001 - whatever disk or driver raises, the job goes on without it
                _log.warning("the checkpoint is not kept: %s", error)

    def _next(self) -> str | None:
        with self._lock:
            name, self._newest = self._newest, None
            if name is None or self._ended.is_set():
                self._thread = None
                return None
            return name

    def _keep(self, name: str) -> None:
        # The child may put a newer file in its place at any time: this one stays under a name of ours.
        taken = self._folder / "checkpoint.taken"
        taken.unlink(missing_ok=True)
        os.link(self._plain(name), taken, follow_symlinks=False)
        try:
            digest = self._digest(taken)
            if digest is not None:
                self._store(taken, digest)
        finally:
            taken.unlink(missing_ok=True)

    def _plain(self, name: str) -> Path:
        path = self._folder / name
        if Path(name).name != name or path.is_symlink() or not path.is_file():
            raise JobFailed(f"{name!r} is not a file of the job's folder")
        return path

    def _digest(self, path: Path) -> str | None:
        """The file's sha256; None when the job ended meanwhile."""
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                if self._ended.is_set():
                    return None
                digest.update(chunk)
            # What takes long comes before the transaction: it holds up everyone who writes.
            os.fsync(file.fileno())
        return digest.hexdigest()

    def _store(self, path: Path, digest: str) -> None:
        with deposit(self._database, self._blobs, {digest: path}) as session:
            former = jobs.keep_checkpoint(session, self._lease, digest)
        if former is not None:
            discard(self._database, self._blobs, [former])
