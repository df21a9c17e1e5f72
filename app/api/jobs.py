"""`/api/v1/jobs`"""

import hashlib
import json
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query, Response
from fastapi.openapi.models import Example
from pydantic import BaseModel, Field
from sse_starlette import EventSourceResponse

from app.api import event_stream
from app.api.bodies import Strict
from app.api.event_stream import Event
from app.api.parameters import IdempotencyKey, JobId, LastEventId
from app.api.services import Provided, Services
from app.contracts import methods
from app.intake.deposit import discard_checkpoints
from app.intake.submission import Idempotency, JobOrder, submit
from app.registry import failures, jobs
from app.registry.database import NOTHING
from app.registry.tables import Job, JobEvent

routes = APIRouter(prefix="/jobs", tags=["jobs"])

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
_EVENT = (
    "id: 7\nevent: running\n"
    'data: {"id": "bfb10c699fa94d5f88ec9d83f19d0834", "state": "running", "stage": "calibrating", "progress": 0.2,'
    ' "detail": null, "attempts": 1, "error": null, "at": "2026-01-31T12:00:00+00:00"}\n\n'
)
_NO_JOB = {"description": "There is no such job."}


class JobRequest(Strict):
    """What to make. Options left out take the method's defaults."""

    model: str
    method: str = Field(description=" · ".join(f"`{row.name}`: {row.summary}" for row in methods.OFFERED.values()))
    revision: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(default=None, description="Default: the newest.")
    dataset: str | None = Field(
        default=None, description="Calibrates and evaluates. Default: none, or that of the search for `options.point`."
    )
    variant: str | None = Field(default=None, description="The new variant's label. Default: the method's name.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="Those of the method, which an unknown one is answered with."
    )

    def order(self) -> JobOrder:
        return JobOrder(
            model=self.model,
            method=self.method,
            revision=self.revision,
            dataset=self.dataset,
            label=self.variant,
            options=self.options,
        )


_EXAMPLES: dict[str, Example] = {
    "int8": {
        "summary": "An INT8 variant, calibrated on a dataset",
        "value": {"model": "resnet20", "method": "int8", "dataset": "cifar10", "variant": "my-int8"},
    },
    "mixed": {
        "summary": "A search for what had better stay in FP32",
        "value": {
            "model": "resnet20",
            "method": "mixed",
            "dataset": "cifar10",
            "options": {"max_accuracy_drop": 0.002, "max_seconds": 20},
        },
    },
    "point": {
        "summary": "A variant of what a search found",
        "description": "`point` is an id of `GET /api/v1/models/{model}/points`.",
        "value": {
            "model": "resnet20",
            "method": "mixed",
            "options": {"point": "5f0c9a52e1d94f6b8a4c2b7d3e6f1a08"},
        },
    },
    "evaluate": {
        "summary": "No variant: the upload is measured as it is",
        "value": {"model": "resnet20", "method": "evaluate", "dataset": "cifar10"},
    },
}


class JobView(BaseModel):
    """A job as it stands."""

    id: str
    model: str
    revision: int
    variant: str = Field(description="The label of what is made; `original` where a job makes nothing but measures.")
    version: int | None = Field(description="Known once the job has succeeded.")
    method: str
    options: dict[str, Any]
    dataset: str | None
    state: State
    stage: str
    progress: float = Field(ge=0, le=1)
    detail: dict[str, Any] | None = Field(
        description="What the method tells of its progress, such as the trial or the epoch: `text` is a line for"
        " people, other keys depend on the method.",
        examples=[{"text": "epoch 3/20 · loss 0.021 · 2 min left", "epoch": 3, "epochs": 20}],
    )
    attempts: int
    error: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, job: Job) -> "JobView":
        return cls(
            id=job.id,
            model=job.model.name,
            revision=job.revision.number,
            variant=job.label,
            version=job.variant.version if job.variant else None,
            method=job.method,
            options=job.options,
            dataset=job.dataset_name,
            state=job.state,
            stage=job.stage,
            progress=job.progress,
            detail=job.detail,
            attempts=job.attempts,
            error=job.error,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
        )


class FailureView(BaseModel):
    """An attempt at a job that failed."""

    attempt: int
    at: datetime
    error: str
    traceback: str | None = Field(description="Where it failed. A process that crashed says so in `log`, if at all.")
    log: str = Field(
        description="The last lines, at most 500 and 64 KiB, of what the job's process logged and printed."
    )


class JobDetail(JobView):
    """A job as it stands and, for administrators, what is known of its failures."""

    failures: list[FailureView] | None = Field(
        default=None, description="Attempts that failed, the first one first; only for keys of the scope `admin`."
    )


@routes.post(
    "",
    status_code=202,
    operation_id="submit_job",
    summary="Quantize or evaluate a model",
    responses={
        202: {"description": "The job is queued."},
        404: {"description": "There is no such model, revision, dataset or point."},
        409: {"description": "The model has a variant of this label, or is quantized already."},
    },
)
def create(
    wanted: Annotated[JobRequest, Body(openapi_examples=_EXAMPLES)],
    response: Response,
    services: Provided,
    idempotency_key: IdempotencyKey = None,
) -> JobView:
    """Queues a job that makes one variant, or measures the original; a worker takes it as soon as one is free.

    The answer's `id` is for `GET /api/v1/jobs/{job_id}`, which says how far it is. When its state is `succeeded`, the
    variant is served under its label and in the comparison. A label is given once: to make another variant by the same
    method, choose another label.
    """
    idempotency = None
    if idempotency_key:
        idempotency = Idempotency(idempotency_key, hashlib.sha256(wanted.model_dump_json().encode()).hexdigest())
    with services.database.writing(changes=NOTHING) as session:
        job = submit(session, wanted.order(), idempotency)
        view = JobView.of(job)
    services.outbox.announce()
    response.headers["Location"] = f"/api/v1/jobs/{view.id}"
    return view


@routes.get(
    "",
    operation_id="list_jobs",
    summary="Jobs, the newest first",
    responses={404: {"description": "There is no such model."}},
)
def index(
    services: Provided,
    model: Annotated[str | None, Query(description="Only of this model.", examples=["resnet20"])] = None,
    state: Annotated[State | None, Query(description="Only in this state.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="So many at most.")] = 200,
) -> list[JobView]:
    """What is waiting, what is being made and what was, with errors of those that failed."""
    with services.database.reading() as session:
        return [JobView.of(job) for job in jobs.listed(session, model=model, state=state, limit=limit)]


@routes.get("/{job_id}", operation_id="get_job", summary="One job", responses={404: _NO_JOB})
def show(job_id: JobId, services: Provided) -> JobDetail:
    """Its state, what it is at (`stage`, `detail`), and how far it is (`progress`, 0 to 1).

    Administrators also see where attempts failed, and the last lines of their logs (`failures`).
    """
    with services.database.reading() as session:
        job = jobs.find(session, job_id)
        rows = failures.of_job(session, job_id)
        views = None if rows is None else [FailureView.model_validate(row, from_attributes=True) for row in rows]
        return JobDetail(**JobView.of(job).model_dump(), failures=views)


@routes.delete(
    "/{job_id}",
    status_code=202,
    operation_id="cancel_job",
    summary="Cancel a job",
    responses={
        202: {"description": "It was cancelled, or will be."},
        404: _NO_JOB,
        409: {"description": "The job has ended; only a queued or running job can be cancelled."},
    },
)
def cancel(job_id: JobId, services: Provided) -> JobView:
    """Ends a queued job at once and a running one within seconds."""
    with services.database.writing(changes=NOTHING) as session:
        jobs.request_cancel(session, job_id)
        view = JobView.of(jobs.find(session, job_id))
    # A queued job may have been running before.
    discard_checkpoints(services.database, services.blobs)
    return view


@routes.get(
    "/{job_id}/events",
    operation_id="follow_job",
    summary="A job's changes, as they happen",
    response_class=EventSourceResponse,
    responses={
        200: event_stream.documented(_EVENT, "One event a change: its data is the job's state in JSON."),
        404: _NO_JOB,
        422: {"description": "`Last-Event-ID` is not the id of an event."},
    },
)
def events(
    job_id: JobId,
    services: Provided,
    last_event_id: LastEventId = None,
) -> EventSourceResponse:
    """Server-sent events (`text/event-stream`), which browsers read with `EventSource`, and `curl -N` prints.

    All changes so far come at once, and new ones as they happen. It ends with the final state; of a job that runs,
    this page shows the answer only then. A client that was cut off goes on after the `Last-Event-ID` it sends.
    """
    with services.database.reading() as session:
        jobs.find(session, job_id)
    return event_stream.response(partial(_events_after, services, job_id), last_event_id)


def _events_after(services: Services, job_id: str, last_id: int) -> tuple[list[Event], bool]:
    """New events, and whether none can follow: the job has ended, or was deleted with its model."""
    with services.database.reading() as session:
        state = jobs.state_of(session, job_id)
        fresh = [
            Event(each.id, each.state, json.dumps(_event_view(job_id, each)))
            for each in jobs.events_after(session, job_id, last_id)
        ]
        return fresh, state is None or state in jobs.FINAL


def _event_view(job_id: str, event: JobEvent) -> dict[str, Any]:
    return {
        "id": job_id,
        "state": event.state,
        "stage": event.stage,
        "progress": event.progress,
        "detail": event.detail,
        "attempts": event.attempts,
        "error": event.error,
        "at": event.at.isoformat(),
    }
