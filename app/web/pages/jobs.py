"""`/jobs` and `/jobs/{id}`: what is being made."""

from typing import Literal

from fastapi import Request
from fastapi.responses import Response

from app.registry import failures, jobs
from app.web.answers import page, page_routes, provided
from app.web.jobs import JobLine

routes = page_routes()

_SHOWN = 200
_STATES = (*jobs.LIVE, *jobs.FINAL)
#: Has those parts of a page fetch themselves anew that listen to it, wherever a job has ended.
_ENDED = {"HX-Trigger": "changed"}


@routes.get("/jobs")
def index(
    request: Request,
    state: Literal["", "queued", "running", "succeeded", "failed", "cancelled"] = "",
) -> Response:
    with provided(request).database.reading() as session:
        listed = [JobLine.of(job) for job in jobs.listed(session, state=state or None, limit=_SHOWN)]
        counts = jobs.counts(session)
    return page("pages/jobs.html", place="Jobs", jobs=listed, counts=counts, states=_STATES, state=state, most=_SHOWN)


@routes.get("/jobs/{job_id}")
def show(job_id: str, request: Request) -> Response:
    with provided(request).database.reading() as session:
        job = JobLine.of(jobs.find(session, job_id))
        attempts = failures.of_job(session, job_id)
    return page("pages/job.html", place="Jobs", job=job, failures=attempts or (), headers={} if job.is_live else _ENDED)
