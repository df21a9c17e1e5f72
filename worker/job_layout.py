"""The folder of a job as its process finds it: `job.json`, and the files that it names."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from app.blobs import BlobStore, linked
from app.contracts.job_spec import JobSpec
from app.errors import JobFailed, MissingBlob, UnknownPoint
from app.registry import Database, Session, calibrations, jobs, points, variants
from app.registry.jobs import Lease
from worker.calibration.statistics import settings as calibration_settings

_STATISTICS = "known.npz"
_CHECKPOINT = "checkpoint.bin"

_log = logging.getLogger(__name__)


@contextmanager
def laid_out(
    database: Database, blobs: BlobStore, lease: Lease, folder: Path, *, intra_op_threads: int
) -> Iterator[None]:
    """Put the inputs of the job into `folder`; their content is valid until the block ends.

    Raises:
        JobFailed: The job names a point that is gone.
        MissingBlob: The model or the dataset is gone.
        NoSpace: The store copies blobs to this machine, and the disk is full.
        OSError: A file cannot be written.
    """
    with database.reading() as session:
        job = jobs.find(session, lease.job_id)
        dataset = job.dataset
        original = variants.original_of(session, job.revision)
        spec = JobSpec(
            method=job.method,
            options=job.options,
            engine=original.engine,
            model="original.onnx",
            model_digest=job.revision.digest,
            dataset="dataset.npz" if dataset else None,
            dataset_name=dataset.name if dataset else None,
            dataset_digest=dataset.digest if dataset else None,
            intra_op_threads=intra_op_threads,
            class_names=job.revision.class_names,
            point=_nodes_in_fp32(session, job.options.get("point")),
        )
        checkpoint = job.checkpoint_digest
        key = calibration_key(spec)
        statistics = calibrations.find(session, key) if key is not None else None
    if statistics is not None:
        spec = spec.model_copy(update={"statistics": _STATISTICS})
        (folder / _STATISTICS).write_bytes(statistics)
    files = {folder / spec.model: original.digest}
    if original.data_digest is not None and original.data_name is not None:
        files[folder / original.data_name] = original.data_digest
    if dataset is not None and spec.dataset is not None:
        files[folder / spec.dataset] = dataset.digest
    with linked(blobs, files), ExitStack() as more:
        if checkpoint is not None:
            try:
                more.enter_context(linked(blobs, {folder / _CHECKPOINT: checkpoint}))
                spec = spec.model_copy(update={"checkpoint": _CHECKPOINT})
            except MissingBlob:
                _log.warning("the checkpoint is gone: the job begins anew")
        spec.write(folder)
        yield


def calibration_key(spec: JobSpec) -> str | None:
    """Return what the statistics of the job's calibration are kept under; None for a job that does not calibrate."""
    settings = calibration_settings(spec.options, spec.engine)
    if settings is None or spec.dataset_digest is None:
        return None
    return calibrations.key(spec.model_digest, spec.dataset_digest, settings)


def _nodes_in_fp32(session: Session, point_id: str | None) -> list[str] | None:
    if point_id is None:
        return None
    try:
        return points.find(session, point_id).kept
    except UnknownPoint as error:
        raise JobFailed(error.detail) from error
