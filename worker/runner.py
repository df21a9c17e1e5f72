"""A job from claim to end: lease, heartbeat, the job's process, cancel, publish."""

import logging
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psutil

from app.blobs import BlobStore
from app.contracts.outcome import Outcome
from app.errors import JobFailed, LeaseLost, MissingBlob, NoSpace
from app.intake.deposit import discard_checkpoints
from app.logs import JOB_ID
from app.registry import Database, OperationalError, jobs
from app.registry.jobs import Lease
from app.scratch import job_folder
from app.settings import Settings
from worker.checkpoints import Checkpoints
from worker.child import Child
from worker.endings import Cancelled, Ending, Failed, Released, Succeeded
from worker.failed_jobs import FailedJobs
from worker.heartbeat import LeaseHeartbeat
from worker.job_layout import laid_out
from worker.job_log import JobLog
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
        self._failed_jobs = FailedJobs(settings.home.absolute(), settings.keep_failed_jobs)
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
                with _naming(job_id):
                    _log.info("attempt %d", lease.attempt)
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
        log = JobLog()
        try:
            self._apply(lease, folder, self._attempt(lease, folder, heartbeat, log), heartbeat, log)
        except LeaseLost:
            _log.warning("the job was taken from this worker, which drops what it made")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        try:
            self.discard_checkpoints()
        except OperationalError as error:
            _log.warning("the checkpoint is left to the sweep: %s", error)

    def discard_checkpoints(self) -> None:
        """Remove what jobs that have ended would have gone on from."""
        discard_checkpoints(self._database, self._blobs)

    def _attempt(self, lease: Lease, folder: Path, heartbeat: LeaseHeartbeat, log: JobLog) -> Ending:
        """Have a child do the job in `folder`.

        Raises:
            LeaseLost: Another worker may have the job.
        """
        try:
            folder.mkdir()
            threads = self._settings.intra_op_threads
            with laid_out(self._database, self._blobs, lease, folder, intra_op_threads=threads):
                return self._follow(lease, folder, heartbeat, log)
        except JobFailed as error:
            return self._failure(error.detail, traceback.format_exc())
        except (OSError, MissingBlob, NoSpace) as error:
            _log.exception("the job's files could not be laid out")
            reason = error.strerror if isinstance(error, OSError) else error.detail
            return self._failure(f"the job's files could not be laid out: {reason}", traceback.format_exc())

    def _follow(self, lease: Lease, folder: Path, heartbeat: LeaseHeartbeat, log: JobLog) -> Ending:
        """Start the job's process, and keep the lease until the process or the job ends."""
        deadline = time.monotonic() + self._settings.job_timeout_seconds
        checkpoints = Checkpoints(self._database, self._blobs, lease, folder)
        child = Child(
            folder,
            log,
            memory_bytes=self._settings.job_memory_bytes or psutil.virtual_memory().total,
            seconds=self._settings.job_timeout_seconds,
            file_bytes=self._settings.max_unpacked_bytes,
        )
        try:
            for message in child.messages(every_seconds=_POLL_SECONDS):
                if message is not None and "outcome" in message:
                    return Succeeded(Outcome.model_validate(message["outcome"]))
                if message is not None and "error" in message:
                    return self._failure(message["error"], message.get("traceback"))
                if message is not None and "checkpoint" in message:
                    checkpoints.keep(message["checkpoint"])
                    message = None
                if self._stopping.is_set():
                    return Released()
                if time.monotonic() > deadline:
                    child.dump_stack()
                    return self._failure(f"the job took longer than {self._settings.job_timeout_seconds:g} s")
                if message is not None and message["stage"] != heartbeat.stage:
                    log.add(f"stage '{message['stage']}'")
                if heartbeat.beat(message):
                    return Cancelled()
            return self._failure(child.crash(heartbeat.stage))
        finally:
            child.end()
            checkpoints.end()

    def _failure(self, error: str, traceback: str | None = None) -> Failed:
        # Libraries word it in their own ways, or not at all, so the disk itself is asked.
        if shutil.disk_usage(self._settings.scratch_folder).free < _FULL_BYTES:
            error = f"the disk that the worker works on is full ({error})"
        return Failed(error, traceback)

    def _apply(self, lease: Lease, folder: Path, ending: Ending, heartbeat: LeaseHeartbeat, log: JobLog) -> None:
        """Have the registry know how the attempt ended.

        Raises:
            LeaseLost: Another worker may have the job.
        """
        if isinstance(ending, Succeeded):
            success = ending
            ending = self._persistently(lambda: publish(self._database, self._blobs, lease, folder, success, heartbeat))
        if not isinstance(ending, Succeeded):
            # First, since a disk that the job has filled may be the one that the registry writes to.
            self._clear(lease, folder, ending, log)
            unsuccessful = ending
            self._persistently(lambda: self._record(lease, unsuccessful, log))
        _log.info("%s", ending)

    def _clear(self, lease: Lease, folder: Path, ending: Ending, log: JobLog) -> None:
        """Remove the job's folder; one that failed may be kept."""
        if not isinstance(ending, Failed):
            shutil.rmtree(folder, ignore_errors=True)
            return
        kept = self._failed_jobs.keep(folder, lease.job_id)
        if kept is not None:
            log.add(f"the folder of the job is kept: {kept}")

    def _record(self, lease: Lease, ending: Failed | Cancelled | Released, log: JobLog) -> None:
        with self._database.writing() as session:
            match ending:
                case Failed(error, traceback):
                    jobs.fail(session, lease, error, traceback=traceback, log=log.text)
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


@contextmanager
def _naming(job_id: str) -> Iterator[None]:
    """Have each line that the block logs name the job."""
    token = JOB_ID.set(job_id)
    try:
        yield
    finally:
        JOB_ID.reset(token)
