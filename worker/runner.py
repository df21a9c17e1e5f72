"""A job from claim to end: lease, heartbeat, child process, cancel, publish."""

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

from app.blobs import BlobStore, linked
from app.blobs.digest import sha256_of
from app.contracts.job_spec import JobSpec
from app.contracts.outcome import Outcome
from app.errors import JobFailed, LeaseLost, MissingBlob, NoSpace, UnknownPoint, is_full
from app.intake.deposit import deposit, discard_checkpoints
from app.periodic import Periodic
from app.registry import Database, OperationalError, Session, calibrations, jobs, points, variants
from app.registry.jobs import Lease
from app.registry.results import NewArtifact
from app.scratch import job_folder
from app.settings import Settings
from worker.calibration.statistics import settings as calibration_settings
from worker.checkpoints import Checkpoints
from worker.child import Child

_POLL_SECONDS = 0.2
_PULSE_SECONDS = 0.5
#: Less free space than this is a full disk.
_FULL_BYTES = 1 << 20
_FULL = "the disk that holds the artifacts is full"
_CHECKPOINT = "checkpoint.bin"

_log = logging.getLogger(__name__)


class _Cancelled(Exception):
    """The client no longer wants the job."""


class _Stopped(Exception):
    """The worker is told to end."""


class Runner:
    """Runs jobs; `run` may be called from any number of threads at once."""

    def __init__(self, settings: Settings, database: Database, blobs: BlobStore) -> None:
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self._stopping = threading.Event()
        self._slots = threading.Semaphore(settings.worker_concurrency)
        self._pulse_seconds = min(_PULSE_SECONDS, settings.job_lease_seconds / 3)
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
        try:
            with ExitStack() as inputs:
                end = self._work(lease, folder, inputs)
                self._persistently(end)
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

    def _work(self, lease: Lease, folder: Path, inputs: ExitStack) -> Callable[[], None]:
        """Have a child do the job; returns how it is to end. Raises `LeaseLost`."""
        try:
            folder.mkdir()
            self._lay_out(lease, folder, inputs)
            outcome = self._follow(lease, folder)
        except JobFailed as error:
            return self._failure(lease, folder, error.detail)
        except (OSError, MissingBlob, NoSpace) as error:
            _log.exception("job %s: its files could not be laid out", lease.job_id)
            reason = error.strerror if isinstance(error, OSError) else error.detail
            return self._failure(lease, folder, f"the job's files could not be laid out: {reason}")
        except _Cancelled:
            _log.info("job %s: cancelled", lease.job_id)
            return self._ending(folder, lambda session: jobs.cancelled(session, lease))
        except _Stopped:
            return self._ending(folder, lambda session: jobs.release(session, lease))
        return lambda: self._publish(lease, folder, outcome)

    def _lay_out(self, lease: Lease, folder: Path, inputs: ExitStack) -> None:
        """Put the job's inputs into `folder`, as the pipeline expects them; they are valid until `inputs` closes."""
        with self._database.reading() as session:
            job = jobs.find(session, lease.job_id)
            dataset = job.dataset
            original = variants.original_of(session, job.revision)
            spec = JobSpec(
                method=job.method,
                options=job.options,
                model="original.onnx",
                model_digest=job.revision.digest,
                dataset="dataset.npz" if dataset else None,
                dataset_name=dataset.name if dataset else None,
                dataset_digest=dataset.digest if dataset else None,
                intra_op_threads=self._settings.intra_op_threads,
                class_names=job.revision.class_names,
            )
            if job.options.get("point") is not None:
                spec = spec.model_copy(update={"point": _kept(session, job.options["point"])})
            checkpoint = job.checkpoint_digest
            key = _calibration_key(spec)
            known = calibrations.find(session, key) if key is not None else None
        if known is not None:
            spec = spec.model_copy(update={"statistics": "known.npz"})
            (folder / "known.npz").write_bytes(known)
        files = {folder / spec.model: original.digest}
        if original.data_digest is not None and original.data_name is not None:
            files[folder / original.data_name] = original.data_digest
        if dataset is not None and spec.dataset is not None:
            files[folder / spec.dataset] = dataset.digest
        inputs.enter_context(linked(self._blobs, files))
        if checkpoint is not None:
            try:
                inputs.enter_context(linked(self._blobs, {folder / _CHECKPOINT: checkpoint}))
                spec = spec.model_copy(update={"checkpoint": _CHECKPOINT})
            except MissingBlob:
                _log.warning("job %s: its checkpoint is gone, so that it begins anew", lease.job_id)
        spec.write(folder)

    def _follow(self, lease: Lease, folder: Path) -> Outcome:
        """The child's outcome, with heartbeat; raises `JobFailed`, `_Cancelled`, `_Stopped` or `LeaseLost`."""
        pulse = _Pulse(self._database, lease, self._pulse_seconds)
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
                    return Outcome.model_validate(message["outcome"])
                if message is not None and "error" in message:
                    raise JobFailed(message["error"])
                if message is not None and "checkpoint" in message:
                    checkpoints.keep(message["checkpoint"])
                    message = None
                if self._stopping.is_set():
                    raise _Stopped
                if time.monotonic() > deadline:
                    raise JobFailed(f"the job took longer than {self._settings.job_timeout_seconds:g} s")
                pulse.beat(message)
            raise child.crash(pulse.stage)
        finally:
            child.end()
            checkpoints.end()

    def _publish(self, lease: Lease, folder: Path, outcome: Outcome) -> None:
        """Blobs, variant, evaluation and the job's end in one transaction, or none of them."""
        try:
            with self._beating(lease):
                artifact, files = _to_be_kept(folder, outcome)
            with deposit(self._database, self._blobs, files) as session:
                jobs.succeed(session, lease, artifact, outcome)
                _keep_statistics(session, folder, outcome)
        except (NoSpace, OSError) as error:
            _log.exception("job %s: what it made could not be stored", lease.job_id)
            detail = _why_not_stored(error)
            # What was to be published is gone after this, so it is not publishing that is tried again.
            self._persistently(self._ending(folder, lambda session: jobs.fail(session, lease, detail)))
        except LeaseLost:
            # Cancelled while it was being published, unless the lease is really gone: then this raises again.
            with self._database.writing() as session:
                jobs.cancelled(session, lease)
        else:
            _log.info("job %s: succeeded", lease.job_id)

    @contextmanager
    def _beating(self, lease: Lease) -> Iterator[None]:
        """Let the lease's holder be heard of while the block takes its time."""

        def beat() -> None:
            with self._database.writing() as session:
                jobs.renew(session, lease)

        heart = Periodic("heartbeat", self._pulse_seconds, beat)
        heart.start()
        try:
            yield
        finally:
            heart.stop()

    def _failure(self, lease: Lease, folder: Path, detail: str) -> Callable[[], None]:
        # Libraries word it in their own ways, or not at all, so the disk itself is asked.
        if shutil.disk_usage(self._settings.scratch_folder).free < _FULL_BYTES:
            detail = f"the disk that the worker works on is full ({detail})"
        _log.info("job %s: failed: %s", lease.job_id, detail)
        return self._ending(folder, lambda session: jobs.fail(session, lease, detail))

    def _ending(self, folder: Path, change: Callable[[Session], None]) -> Callable[[], None]:
        def end() -> None:
            # First, since a disk that the job has filled may be the one that the registry writes to.
            shutil.rmtree(folder, ignore_errors=True)
            with self._database.writing() as session:
                change(session)

        return end

    def _persistently(self, end: Callable[[], None]) -> None:
        """Try `end` until the database answers, as long as the lease can be ours."""
        deadline = time.monotonic() + self._settings.job_lease_seconds
        while True:
            try:
                return end()
            except OperationalError as error:
                if time.monotonic() > deadline:
                    raise LeaseLost("the registry did not answer before the lease ended") from error
                _log.warning("the registry does not answer, trying again: %s", error)
                time.sleep(1)


class _Pulse:
    """Renews a lease every so many `seconds`, telling the registry the latest progress, and asks whether to go on."""

    def __init__(self, database: Database, lease: Lease, seconds: float) -> None:
        self._database = database
        self._lease = lease
        self._seconds = seconds
        self._last_seconds = 0.0
        self._news: dict[str, Any] = {}
        self.stage = "starting"

    def beat(self, message: dict[str, Any] | None) -> None:
        """Take in a message of the child; raises `_Cancelled` when the client said so, or `LeaseLost`."""
        new_stage = False
        if message is not None:
            self._news = message
            new_stage, self.stage = message["stage"] != self.stage, message["stage"]
        since = time.monotonic() - self._last_seconds
        if not new_stage and since < self._seconds:
            return
        try:
            with self._database.writing() as session:
                cancel = jobs.renew(
                    session,
                    self._lease,
                    stage=self._news.get("stage"),
                    progress=self._news.get("progress", 0.0),
                    detail=self._news.get("detail"),
                )
        except OperationalError as error:
            # The lease outlives a short absence of the database; a long one ends in `LeaseLost`.
            _log.warning("job %s: heartbeat missed: %s", self._lease.job_id, error)
            return
        finally:
            self._last_seconds = time.monotonic()
        self._news = {}
        if cancel:
            raise _Cancelled


def _kept(session: Session, point_id: str) -> list[str]:
    """The nodes that the point keeps in FP32."""
    try:
        return points.find(session, point_id).kept
    except UnknownPoint as error:
        raise JobFailed(error.detail) from error


def _calibration_key(spec: JobSpec) -> str | None:
    settings = calibration_settings(spec.options)
    if settings is None or spec.dataset_digest is None:
        return None
    return calibrations.key(spec.model_digest, spec.dataset_digest, settings)


def _keep_statistics(session: Session, folder: Path, outcome: Outcome) -> None:
    """Keep what calibration found for the next job; that it cannot be kept is no reason to fail this one."""
    spec = JobSpec.read(folder)
    key = _calibration_key(spec)
    if outcome.statistics is None or key is None or spec.dataset_digest is None:
        return
    try:
        found = (folder / outcome.statistics).read_bytes()
    except OSError:
        _log.exception("what calibration found could not be read")
        return
    calibrations.keep(
        session, key, model_digest=spec.model_digest, dataset_digest=spec.dataset_digest, statistics=found
    )


def _to_be_kept(folder: Path, outcome: Outcome) -> tuple[NewArtifact | None, dict[str, Path]]:
    """The artifact of the outcome, and its files by their digests, which are on disk then; none where it has none."""
    if outcome.artifact is None:
        return None, {}
    paths = [folder / name for name in (outcome.artifact, outcome.data) if name is not None]
    digests = [_synced_digest(path) for path in paths]
    artifact = NewArtifact(
        digest=digests[0],
        data_digest=digests[1] if outcome.data is not None else None,
        data_name=outcome.data,
        size_bytes=sum(path.stat().st_size for path in paths),
    )
    return artifact, {digest: _second_name(path) for path, digest in zip(paths, digests, strict=True)}


def _synced_digest(path: Path) -> str:
    """What takes long comes before the transaction, which holds up everyone who writes."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return sha256_of(path)


def _why_not_stored(error: NoSpace | OSError) -> str:
    if isinstance(error, NoSpace):
        return error.detail
    return _FULL if is_full(error) else f"what the job made could not be stored: {error.strerror}"


def _second_name(path: Path) -> Path:
    """Another name of the same file, for the store to take: the first stays, should publishing be tried again."""
    second = path.with_suffix(".publish")
    second.unlink(missing_ok=True)
    os.link(path, second)
    return second
