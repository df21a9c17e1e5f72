"""Jobs: the states of a quantization, and who may change them.

    queued ── claim ──> running ── succeed | fail | cancelled
      ^                    │
      └── release, expire ─┘

A running job belongs to the holder of its lease token; every change by a worker names the token, so that a worker
that was slow, frozen or cut off can change nothing once another has the job. Moments here are for people: nothing is
decided by comparing them, since clocks jump, and machines differ.
"""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, bindparam, delete, exists, func, select, update
from sqlalchemy.orm import Session, joinedload

from app.caller import CALLER
from app.contracts import methods
from app.contracts.outcome import Outcome
from app.errors import Conflict, Invalid, LeaseLost, UnknownJob
from app.registry import audit, failures, models, names, results, variants
from app.registry.tables import Dataset, IdempotencyKey, Job, JobEvent, Json, Model, Revision, Variant, now

LIVE = ("queued", "running")
FINAL = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class Lease:
    """The right to work on a job, as long as its holder is heard of."""

    job_id: str
    token: str
    attempt: int


@dataclass(frozen=True)
class Heartbeat:
    """When the holder of a lease was last heard of, by its own clock: good to tell whether it was heard of since."""

    job_id: str
    token: str | None
    renewed_at: datetime | None


@dataclass(frozen=True)
class Waiting:
    """A queued job, and when a message for it was last handed to the broker."""

    job_id: str
    woken_at: datetime | None


def submit(
    session: Session,
    *,
    model: Model,
    revision: Revision,
    method: methods.Method,
    options: dict[str, Any],
    dataset: Dataset | None,
    label: str | None = None,
) -> Job:
    """Queue a job that will make the variant `label` (the method's name when None) of `revision`.

    Where the method makes none, the job is of the original, and one at a time.
    Raises `Conflict` when the revision has such a variant or a live job for it, `Invalid` for a label that could
    be taken for something else, and what `methods` raises for options and applicability.
    The caller has the model locked (`models.find(for_update=True)`), which keeps two submissions apart.
    """
    label = _label(method, label)
    complete = methods.checked_options(method, options)
    methods.check_applicable(method, revision.operators, revision.float_bytes, revision.operator_nodes)
    if method.needs_dataset and dataset is None:
        raise Invalid(f"method '{method.name}' calibrates: name a dataset", field="dataset")
    if method.makes_variant:
        _check_label_free(session, model, revision, label)
    else:
        _check_not_evaluated_now(session, model, revision)
    job = Job(
        id=uuid.uuid4().hex,
        model=model,
        revision=revision,
        dataset=dataset,
        dataset_name=dataset.name if dataset else None,
        label=label,
        method=method.name,
        options=complete,
        state="queued",
        stage="queued",
        progress=0.0,
        attempts=0,
    )
    session.add(job)
    session.flush()
    _log(session, job)
    audit.record(session, "submitted", "job", f"{model.name}@{label} {job.id}")
    return job


def _label(method: methods.Method, wanted: str | None) -> str:
    if method.makes_variant:
        return checked_label(wanted or method.name)
    if wanted not in (None, models.ORIGINAL):
        raise Invalid(
            f"method '{method.name}' makes no variant, but measures the original: leave out `variant`", field="variant"
        )
    return models.ORIGINAL


def checked_label(label: str) -> str:
    """`label` itself; raises `Invalid` for one that reads as a version or as the upload."""
    names.checked("variant", label)
    if variants.is_version(label) or label == models.ORIGINAL:
        raise Invalid(f"a variant cannot be called '{label}': integers are versions and 'original' is the upload")
    return label


def is_taken(session: Session, revision: Revision, label: str) -> bool:
    """Whether `revision` has a variant `label`, or a live job for it."""
    variant = exists().where(Variant.revision_id == revision.id, Variant.label == label)
    job = exists().where(Job.revision_id == revision.id, Job.label == label, Job.state.in_(LIVE))
    return bool(session.scalar(select(variant | job)))


def is_asked_for(session: Session, revision: Revision, method: methods.Method) -> bool:
    """Whether what `method` does by itself was done for `revision`, or will be."""
    if method.makes_variant:
        return is_taken(session, revision, method.name)
    wanted = (Job.revision_id == revision.id) & (Job.method == method.name) & Job.state.in_((*LIVE, "succeeded"))
    return bool(session.scalar(select(exists().where(wanted))))


def free_label(session: Session, revision: Revision, wanted: str) -> str:
    """`wanted`, or where that is taken, the first free one of `wanted-2`, `wanted-3` and so on."""
    label, number = wanted[: names.LONGEST], 1
    while is_taken(session, revision, label):
        number += 1
        ending = f"-{number}"
        label = wanted[: names.LONGEST - len(ending)] + ending
    return label


def _check_label_free(session: Session, model: Model, revision: Revision, label: str) -> None:
    if is_taken(session, revision, label):
        raise Conflict(
            f"revision {revision.number} of '{model.name}' has a variant '{label}', or a job for it; choose another"
            " label with `variant`, or delete it first",
            field="variant",
        )


def _check_not_evaluated_now(session: Session, model: Model, revision: Revision) -> None:
    query = select(Job.id).where(Job.revision_id == revision.id, Job.label == models.ORIGINAL, Job.state.in_(LIVE))
    live = session.scalar(query.limit(1))
    if live is not None:
        raise Conflict(
            f"revision {revision.number} of '{model.name}' is being evaluated: wait for job {live}, or cancel it",
            field="method",
        )


def remembered(session: Session, key: str, fingerprint: str) -> Job | None:
    """The job that the idempotency `key` made; raises `Invalid` when it was used for another request."""
    known = session.get(IdempotencyKey, key)
    if known is None:
        return None
    if known.fingerprint != fingerprint:
        raise Invalid("this Idempotency-Key was used for a different request", field="Idempotency-Key")
    return find(session, known.job_id)


def remember(session: Session, key: str, fingerprint: str, job: Job) -> None:
    session.add(IdempotencyKey(key=key, fingerprint=fingerprint, job_id=job.id))


def find(session: Session, job_id: str) -> Job:
    """The job, with its model, revision and variant; raises `UnknownJob`, also where the caller's key is for other
    models.
    """
    options = [joinedload(Job.model), joinedload(Job.revision), joinedload(Job.variant)]
    job = session.get(Job, job_id, options=options) if names.is_valid(job_id) else None
    if job is None or not CALLER.get().may_use(job.model.name):
        raise UnknownJob(job_id[:80])
    return job


def listed(session: Session, *, model: str | None = None, state: str | None = None, limit: int = 200) -> list[Job]:
    """The newest jobs first, at most `limit`, of models that the caller's key is for.

    Raises `UnknownModel` for a model that is not there.
    """
    query = (
        select(Job)
        .join(Model)
        .options(joinedload(Job.model), joinedload(Job.revision), joinedload(Job.variant))
        .order_by(Job.created_at.desc(), Job.id)
        .limit(limit)
    )
    if CALLER.get().models is not None:
        query = query.where(Job.model_id.in_([each.id for each in models.listed(session)]))
    if model is not None:
        query = query.where(Job.model_id == models.find(session, model).id)
    if state is not None:
        query = query.where(Job.state == state)
    return list(session.scalars(query))


_OF_REVISIONS = (
    select(Job)
    .where(Job.revision_id.in_(bindparam("revisions", expanding=True)))
    .options(joinedload(Job.variant).load_only(Variant.version))
    .order_by(Job.created_at, Job.id)
)


def of_revisions(session: Session, revision_ids: Collection[int]) -> dict[int, list[Job]]:
    """The jobs of each of these revisions, oldest first, their variants loaded; one query."""
    jobs_of: dict[int, list[Job]] = {revision_id: [] for revision_id in revision_ids}
    for job in session.scalars(_OF_REVISIONS, {"revisions": list(revision_ids)}):
        jobs_of[job.revision_id].append(job)
    return jobs_of


def of_revision(session: Session, revision: Revision) -> list[Job]:
    query = select(Job).where(Job.revision_id == revision.id).order_by(Job.created_at, Job.id)
    return list(session.scalars(query))


def state_of(session: Session, job_id: str) -> str | None:
    """The job's state; None when there is no such job."""
    return session.scalar(select(Job.state).where(Job.id == job_id))


def known(session: Session, job_ids: Collection[str]) -> set[str]:
    """Those of `job_ids` that the registry still has."""
    return set(session.scalars(select(Job.id).where(Job.id.in_(job_ids))))


def counts(session: Session) -> dict[str, int]:
    """Number of jobs by state."""
    rows = session.execute(select(Job.state, func.count()).group_by(Job.state))
    return {row[0]: row[1] for row in rows}


def longest_wait_s(session: Session) -> float:
    """For how long the oldest of the queued jobs has been there; 0 where none waits."""
    oldest = session.scalar(select(func.min(Job.created_at)).where(Job.state == "queued"))
    return 0.0 if oldest is None else (now() - oldest).total_seconds()


def events_after(session: Session, job_id: str, last_id: int) -> list[JobEvent]:
    """The changes of the job since event `last_id`, in order."""
    query = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.id > last_id).order_by(JobEvent.id)
    return list(session.scalars(query))


def claim(session: Session, job_id: str) -> Lease | None:
    """Take a queued job; of several callers at once, one gets the lease and the others None."""
    token = uuid.uuid4().hex
    taken = _change(
        session,
        (Job.id == job_id) & (Job.state == "queued"),
        state="running",
        stage="starting",
        progress=0.0,
        attempts=Job.attempts + 1,
        lease_token=token,
        lease_renewed_at=now(),
        started_at=now(),
    )
    if taken is None:
        return None
    return Lease(job_id, token, taken.attempts)


def renew(
    session: Session,
    lease: Lease,
    *,
    stage: str | None = None,
    progress: float = 0.0,
    detail: Json | None = None,
) -> bool:
    """Let the lease's holder be heard of, noting how far it is if `stage` is given; returns whether to cancel the job.

    Raises `LeaseLost` when it is no longer this worker's.
    """
    values: dict[str, Any] = {"lease_renewed_at": now()}
    if stage is not None:
        values |= {"stage": stage, "progress": progress, "detail": detail}
    job = _change(session, _held(lease), log=stage is not None, **values)
    if job is None:
        raise LeaseLost(f"job {lease.job_id} is no longer held")
    return job.cancel_requested


def keep_checkpoint(session: Session, lease: Lease, digest: str) -> str | None:
    """Have a next attempt go on from the blob `digest`; returns the one that this replaces, if there was one.

    Raises `LeaseLost` when the job is no longer this worker's: what a slow worker saw does not replace what a later
    one has reached.
    """
    former = session.scalar(select(Job.checkpoint_digest).where(_held(lease)))
    if _change(session, _held(lease), log=False, checkpoint_digest=digest) is None:
        raise LeaseLost(f"job {lease.job_id} is no longer held")
    return former


def ended_checkpoints(session: Session) -> set[str]:
    """Blobs that jobs still name as their checkpoint though they have ended."""
    query = select(Job.checkpoint_digest).where(Job.checkpoint_digest.is_not(None), Job.state.in_(FINAL))
    return {digest for digest in session.scalars(query) if digest is not None}


def forget_checkpoints(session: Session, digests: Collection[str]) -> None:
    """No job that has ended names these blobs any more."""
    ended = Job.checkpoint_digest.in_(digests) & Job.state.in_(FINAL)
    session.execute(
        update(Job).where(ended).values(checkpoint_digest=None).execution_options(synchronize_session=False)
    )


def succeed(session: Session, lease: Lease, artifact: results.NewArtifact | None, outcome: Outcome) -> Variant:
    """Publish what the job made: variant, evaluations, points and the job's end are one transaction.

    Without an artifact there is no new variant: the outcome is what was measured of the original.
    Raises `LeaseLost`, and so publishes nothing, when the job is no longer this worker's or was cancelled.
    """
    job = find(session, lease.job_id)
    model = models.find(session, job.model.name, for_update=True)
    ended = _change(
        session,
        _held(lease) & Job.cancel_requested.is_(False),
        state="succeeded",
        stage="done",
        progress=1.0,
        finished_at=now(),
        **_LEASE_OVER,
    )
    if ended is None:
        raise LeaseLost(f"job {lease.job_id} is no longer held")
    variant = results.publish(session, model, job, artifact, outcome)
    ended.variant_id = variant.id
    if artifact is not None:
        audit.record(session, "made", "variant", f"{model.name}@{variant.label}", by="worker")
    return variant


def fail(session: Session, lease: Lease, error: str, *, traceback: str | None = None, log: str = "") -> None:
    """End the job with the reason; raises `LeaseLost` when it is no longer this worker's.

    `traceback` and `log`, the last lines, are for administrators.
    """
    _end(session, lease, state="failed", stage="failed", error=failures.storable(error))
    failures.record(session, lease.job_id, lease.attempt, error, traceback=traceback, log=log)


def cancelled(session: Session, lease: Lease) -> None:
    """End the job as its client wished; raises `LeaseLost` when it is no longer this worker's."""
    _end(session, lease, state="cancelled", stage="cancelled")


def _end(session: Session, lease: Lease, **values: Any) -> None:
    ended = _change(session, _held(lease), **_LEASE_OVER, finished_at=now(), **values)
    if ended is None:
        raise LeaseLost(f"job {lease.job_id} is no longer held")


def release(session: Session, lease: Lease) -> None:
    """Give the job back untried, as when its worker is told to stop; the attempt does not count."""
    _change(session, _held(lease), attempts=Job.attempts - 1, **_REQUEUED)


def request_cancel(session: Session, job_id: str) -> Job:
    """End a queued job now, and have the worker of a running one end it; raises `Conflict` on an ended one."""
    job = find(session, job_id)
    if _change(
        session,
        (Job.id == job_id) & (Job.state == "queued"),
        state="cancelled",
        stage="cancelled",
        finished_at=now(),
    ) or _change(session, (Job.id == job_id) & (Job.state == "running"), cancel_requested=True):
        audit.record(session, "cancelled", "job", f"{job.model.name}@{job.label} {job.id}")
        return job
    session.refresh(job)
    if job.state != "cancelled":
        raise Conflict(f"job {job_id} has {job.state}; only a queued or running job can be cancelled")
    return job


def heartbeats(session: Session) -> list[Heartbeat]:
    """Of all leases in force."""
    return [_heartbeat(job) for job in session.scalars(select(Job).where(Job.state == "running"))]


def _heartbeat(job: Job) -> Heartbeat:
    return Heartbeat(job.id, job.lease_token, job.lease_renewed_at)


def expire(session: Session, silent: Collection[Heartbeat], *, max_attempts: int) -> list[str]:
    """Take jobs from workers that were not heard of since; returns the ids of those that were taken.

    Such a job is queued again or, after `max_attempts` tries, failed; one that was to be cancelled is.
    """
    query = select(Job).where(Job.id.in_([each.job_id for each in silent]), Job.state == "running")
    taken = []
    for job in session.scalars(query.with_for_update(skip_locked=True)):
        if _heartbeat(job) not in silent:
            continue
        held = _held(Lease(job.id, job.lease_token or "", job.attempts))
        if job.cancel_requested:
            _change(session, held, **_LEASE_OVER, state="cancelled", stage="cancelled", finished_at=now())
        else:
            failures.record(session, job.id, job.attempts, f"the worker died or was cut off at stage '{job.stage}'")
            if job.attempts < max_attempts:
                _change(session, held, **_REQUEUED)
            else:
                error = (
                    f"the worker died or was cut off in each of {job.attempts} attempts, the last time at stage"
                    f" '{job.stage}'; the model may need more memory than the worker has"
                )
                ended = _LEASE_OVER | {"state": "failed", "stage": "failed", "finished_at": now(), "error": error}
                _change(session, held, **ended)
        taken.append(job.id)
    return taken


def ended_before(session: Session, moment: datetime) -> list[str]:
    """The ids of jobs that ended before `moment`."""
    return list(session.scalars(select(Job.id).where(Job.state.not_in(LIVE), Job.finished_at < moment)))


def forget(session: Session, job_ids: Collection[str]) -> None:
    """Remove ended jobs with their events and idempotency keys; the variants that they made stay."""
    session.execute(delete(Job).where(Job.id.in_(job_ids), Job.state.not_in(LIVE)))


def unannounced(session: Session) -> list[str]:
    """Queued jobs whose message was not sent yet (the outbox), oldest first."""
    query = select(Job.id).where(Job.state == "queued", Job.woken_at.is_(None)).order_by(Job.created_at)
    return list(session.scalars(query))


def announced(session: Session, job_ids: list[str]) -> None:
    """Note that messages for these jobs were handed to the broker."""
    session.execute(update(Job).where(Job.id.in_(job_ids)).values(woken_at=now()))


def waiting(session: Session) -> list[Waiting]:
    """All queued jobs, oldest first."""
    query = select(Job.id, Job.woken_at).where(Job.state == "queued").order_by(Job.created_at)
    return [Waiting(*row) for row in session.execute(query)]


def held_tokens(session: Session) -> set[str]:
    """Tokens of all leases in force."""
    return set(session.scalars(select(Job.lease_token).where(Job.state == "running", Job.lease_token.is_not(None))))


_LEASE_OVER: Json = {"lease_token": None, "lease_renewed_at": None}
_REQUEUED: Json = {
    "state": "queued",
    "stage": "queued",
    "progress": 0.0,
    "detail": None,
    "woken_at": None,
    **_LEASE_OVER,
}


def _held(lease: Lease) -> ColumnElement[bool]:
    return (Job.id == lease.job_id) & (Job.state == "running") & (Job.lease_token == lease.token)


def _change(session: Session, condition: ColumnElement[bool], *, log: bool = True, **values: Any) -> Job | None:
    """One guarded UPDATE, so that of concurrent changes only those whose condition still holds happen."""
    job_id = session.scalar(
        update(Job).where(condition).values(**values).returning(Job.id).execution_options(synchronize_session=False)
    )
    if job_id is None:
        return None
    job = session.get_one(Job, job_id, populate_existing=True)
    if log:
        _log(session, job)
    return job


def _log(session: Session, job: Job) -> None:
    session.add(
        JobEvent(
            job_id=job.id,
            state=job.state,
            stage=job.stage,
            progress=job.progress,
            detail=job.detail,
            attempts=job.attempts,
            error=job.error,
        )
    )
