"""Publishing what a job made: blobs, variant, evaluation and the job's end in one transaction, or none of them."""

import logging
import os
import traceback
from pathlib import Path

from app.blobs import BlobStore
from app.contracts.job_spec import JobSpec
from app.contracts.outcome import Outcome
from app.digest import sha256_of
from app.errors import LeaseLost, NoSpace, is_full
from app.intake.deposit import deposit
from app.registry import Database, Session, calibrations, jobs
from app.registry.jobs import Lease
from app.registry.results import NewArtifact
from worker.endings import Cancelled, Ending, Failed, Succeeded
from worker.heartbeat import LeaseHeartbeat
from worker.job_layout import calibration_key

_log = logging.getLogger(__name__)


def publish(
    database: Database, blobs: BlobStore, lease: Lease, folder: Path, success: Succeeded, heartbeat: LeaseHeartbeat
) -> Ending:
    """Publish the outcome of the job whose artifact is in `folder`.

    Returns:
        `success` when it is published; `Failed` when there is no space for it; `Cancelled` when the lease no longer
        allows it, which is so when the client cancels the job meanwhile, or another worker has it.
    """
    outcome = success.outcome
    try:
        with heartbeat.in_background():
            artifact, files = _artifact_files(folder, outcome)
        with deposit(database, blobs, files) as session:
            jobs.succeed(session, lease, artifact, outcome)
            _keep_statistics(session, folder, outcome)
    except (NoSpace, OSError) as error:
        _log.exception("the artifact could not be stored")
        return Failed(_storage_error(error), traceback.format_exc())
    except LeaseLost:
        return Cancelled()
    return success


def _artifact_files(folder: Path, outcome: Outcome) -> tuple[NewArtifact | None, dict[str, Path]]:
    """The artifact of the outcome, and its files by their digests, all of them on disk; none where it has none."""
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


def _second_name(path: Path) -> Path:
    """Another name of the same file, for the store to take: the first stays, should publishing be tried again."""
    second = path.with_suffix(".publish")
    second.unlink(missing_ok=True)
    os.link(path, second)
    return second


def _keep_statistics(session: Session, folder: Path, outcome: Outcome) -> None:
    """Keep what calibration found for the next job; that it cannot be kept is no reason to fail this one."""
    spec = JobSpec.read(folder)
    key = calibration_key(spec)
    if outcome.statistics is None or key is None or spec.dataset_digest is None:
        return
    try:
        statistics = (folder / outcome.statistics).read_bytes()
    except OSError:
        _log.exception("the statistics of calibration could not be read")
        return
    calibrations.keep(
        session, key, model_digest=spec.model_digest, dataset_digest=spec.dataset_digest, statistics=statistics
    )


def _storage_error(error: NoSpace | OSError) -> str:
    if isinstance(error, NoSpace):
        return error.detail
    if is_full(error):
        return "the disk that holds the artifacts is full"
    return f"what the job made could not be stored: {error.strerror}"
