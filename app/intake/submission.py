"""Jobs are queued once their dataset is known to fit the model."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from app.contracts import methods
from app.engines import TensorSpec
from app.intake.artifacts import ArraySpec
from app.intake.matching import check_match
from app.registry import Session, datasets, jobs, models, points
from app.registry.tables import Dataset, Job, Revision


@dataclass(frozen=True)
class JobOrder:
    """What a client asks for. None stands for: the newest revision, no dataset, a label made from the method's name."""

    model: str
    method: str
    revision: int | None
    dataset: str | None
    label: str | None
    options: dict[str, Any]


@dataclass(frozen=True)
class Idempotency:
    """The key that a client sent with a request, and a digest of that request."""

    key: str
    fingerprint: str


def submit(session: Session, order: JobOrder, idempotency: Idempotency | None) -> Job:
    """Queue the job that `order` describes, or return the one that an earlier request with the same key queued.

    Options and dataset that the order leaves out come from the search that found `options.point`, where it names one.

    Raises:
        NotFound: There is no such model, revision, dataset or point.
        Invalid: The method is unknown, an option is wrong, or the key was used for another request.
        DatasetMismatch: The dataset does not fit the model.
        Conflict: The label is taken, or the method starts from FP32 and the upload is quantized.
    """
    method = methods.find(order.method)
    model = models.find(session, order.model, for_update=True)
    known = jobs.remembered(session, idempotency.key, idempotency.fingerprint) if idempotency is not None else None
    if known is not None:
        return known
    revision = models.find_revision(session, model, order.revision)
    order = _with_point(session, revision, method, order)
    dataset = datasets.find(session, order.dataset) if order.dataset is not None else None
    job = _submit(session, revision, method, dataset, label=order.label, options=order.options)
    if idempotency is not None:
        jobs.remember(session, idempotency.key, idempotency.fingerprint, job)
    return job


def submit_missing(session: Session, revision: Revision, wanted: Iterable[methods.Method], dataset: str | None) -> None:
    """Queue a job for each method whose job was not queued before: uploading twice is harmless; raises as `submit`."""
    found = datasets.find(session, dataset) if dataset is not None else None
    for method in wanted:
        if not jobs.is_asked_for(session, revision, method):
            _submit(session, revision, method, found)


def _submit(
    session: Session,
    revision: Revision,
    method: methods.Method,
    dataset: Dataset | None,
    *,
    label: str | None = None,
    options: dict[str, Any] | None = None,
) -> Job:
    if dataset is not None:
        check_match(
            [TensorSpec.from_json(spec) for spec in revision.inputs],
            [ArraySpec.from_json(spec) for spec in dataset.arrays],
        )
    return jobs.submit(
        session,
        model=revision.model,
        revision=revision,
        method=method,
        options=options or {},
        dataset=dataset,
        label=label,
    )


def _with_point(session: Session, revision: Revision, method: methods.Method, order: JobOrder) -> JobOrder:
    """Complete `order` by what the search of the point it names was asked for, if it names one."""
    point_id = order.options.get("point") if "point" in method.options.model_fields else None
    if not isinstance(point_id, str):
        return order
    point = points.find_of(session, revision, point_id)
    return replace(
        order,
        options=points.options_for(point, method, order.options),
        dataset=order.dataset if order.dataset is not None else point.dataset,
        label=order.label or jobs.free_label(session, revision, points.label_of(point)),
    )
