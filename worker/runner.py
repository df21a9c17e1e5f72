"""A job from claim to end: lease, heartbeat, the job's process, cancel, publish."""

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psutil

from app.blobs import BlobStore
from app.contracts.outcome import Outcome
from app.errors import JobFailed, LeaseLost, MissingBlob, NoSpace
from app.intake.deposit import discard_checkpoints
from app.registry import Database, OperationalError, jobs
from app.registry.jobs import Lease
from app.scratch import job_folder
from app.settings import Settings
from worker.checkpoints import Checkpoints
from worker.child import Child
from worker.endings import Cancelled, Ending, Failed, Released, Succeeded
from worker.heartbeat import LeaseHeartbeat
from worker.job_layout import laid_out
from worker.publication import publish

T = TypeVar("T")

_POLL_SECONDS = 0.2
_HEARTBEAT_SECONDS = 0.5
#: Less free space than this is a full disk.
_FULL_BYTES = 1 << 20

_log = logging.getLogger(__name__)


class Runner:
    """Runs jobs; `run` may be called from any number of threads at once."""

    def __init__(self, settings: Settings, database: Database, blobs: BlobStore) -> None:
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self._stopping = threading.Event()
        self._slots = threading.Semaphore(settings.worker_concurrency)
        self._heartbeat_seconds = min(_HEARTBEAT_SECONDS, settings.job_lease_seconds / 3)
        self._running = 0
        self._lock = threading.Lock()

    @property
    def running(self) -> int:
        """Jobs being run now."""
        return self._running

    @property
    def idle(self) -> int:
        """How many more it could run."""
        return self._settings.worker_concurrency - self._running

    def stop(self) -> None:
        """Have every running job given back within a second, and take no new one."""
        self._stopping.set()

    def run(self, job_id: str) -> None:
        """Do the job, once there is a slot, if it is still queued then; every way it can end is in the registry
        afterwards.
        """
        with self._slots, self._counted():
            if self._stopping.is_set():
                return
            with self._database.writing() as session:
                lease = jobs.claim(session, job_id)
            if lease is not None:
                _log.info("job %s: attempt %d", job_id, lease.attempt)
                self._run_leased(lease)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1

    def _run_leased(self, lease: Lease) -> None:
        folder = job_folder(self._settings.scratch_folder, lease.token)
        heartbeat = LeaseHeartbeat(self._database, lease, self._heartbeat_seconds)
        try:
            self._apply(lease, folder, self._attempt(lease, folder, heartbeat), heartbeat)
        except LeaseLost:
            _log.warning("job %s: taken from this worker, which drops what it made", lease.job_id)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        try:
            self.discard_checkpoints()
        except OperationalError as error:
            _log.warning("job %s: its checkpoint is left to the sweep: %s", lease.job_id, error)

    def discard_checkpoints(self) -> None:
        """Remove what jobs that have ended would have gone on from."""
        discard_checkpoints(self._database, self._blobs)

    def _attempt(self, lease: Lease, folder: Path, heartbeat: LeaseHeartbeat) -> Ending:
        """Have a child do the job in `folder`.

        Raises:
            LeaseLost: Another worker may have the job.
        """
        try:
            folder.mkdir()
            threads = self._settings.intra_op_threads
            with laid_out(self._database, self._blobs, lease, folder, intra_op_threads=threads):
                return self._follow(lease, folder, heartbeat)
        except JobFailed as error:
            return self._failure(error.detail)
        except (OSError, MissingBlob, NoSpace) as error:
            _log.exception("job %s: its files could not be laid out", lease.job_id)
            reason = error.strerror if isinstance(error, OSError) else error.detail
            return self._failure(f"the job's files could not be laid out: {reason}")

    def _follow(self, lease: Lease, folder: Path, heartbeat: LeaseHeartbeat) -> Ending:
        """Start the job's process, and keep the lease until the process or the job ends."""
        deadline = time.monotonic() + self._settings.job_timeout_seconds
        checkpoints = Checkpoints(self._database, self._blobs, lease, folder)
        child = Child(
            folder,
            memory_bytes=self._settings.job_memory_bytes or psutil.virtual_memory().total,
            seconds=self._settings.job_timeout_seconds,
            file_bytes=self._settings.max_unpacked_bytes,
        )
        try:
            for message in child.messages(every_seconds=_POLL_SECONDS):
                if message is not None and "outcome" in message:
                    return Succeeded(Outcome.model_validate(message["outcome"]))
                if message is not None and "error" in message:
                    return self._failure(message["error"])
                if message is not None and "checkpoint" in message:
                    checkpoints.keep(message["checkpoint"])
                    message = None
                if self._stopping.is_set():
                    return Released()
                if time.monotonic() > deadline:
                    return self._failure(f"the job took longer than {self._settings.job_timeout_seconds:g} s")
                if heartbeat.beat(message):
                    return Cancelled()
            return self._failure(child.crash(heartbeat.stage).detail)
        finally:
            child.end()
            checkpoints.end()

    def _failure(self, error: str) -> Failed:
        # Libraries word it in their own ways, or not at all, so the disk itself is asked.
        if shutil.disk_usage(self._settings.scratch_folder).free < _FULL_BYTES:
            error = f"the disk that the worker works on is full ({error})"
        return Failed(error)

    def _apply(self, lease: Lease, folder: Path, ending: Ending, heartbeat: LeaseHeartbeat) -> None:
        """Have the registry know how the attempt ended.

        Raises:
            LeaseLost: Another worker may have the job.
        """
        if isinstance(ending, Succeeded):
            success = ending
            ending = self._persistently(lambda: publish(self._database, self._blobs, lease, folder, success, heartbeat))
        if not isinstance(ending, Succeeded):
            # First, since a disk that the job has filled may be the one that the registry writes to.
            shutil.rmtree(folder, ignore_errors=True)
            unsuccessful = ending
            self._persistently(lambda: self._record(lease, unsuccessful))
        _log.info("job %s: %s", lease.job_id, ending)

    def _record(self, lease: Lease, ending: Failed | Cancelled | Released) -> None:
        with self._database.writing() as session:
            match ending:
                case Failed(error):
                    jobs.fail(session, lease, error)
                case Cancelled():
                    jobs.cancelled(session, lease)
                case Released():
                    jobs.release(session, lease)

    def _persistently(self, change: Callable[[], T]) -> T:
        """Try `change` until the database answers, as long as the lease can be ours."""
        deadline = time.monotonic() + self._settings.job_lease_seconds
        while True:
            try:
                return change()
            except OperationalError as error:
                if time.monotonic() > deadline:
                    raise LeaseLost("the registry did not answer before the lease ended") from error
                _log.warning("the registry does not answer, trying again: %s", error)
                time.sleep(1)
