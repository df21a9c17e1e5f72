"""`/metrics`"""

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app.api.services import Provided
from app.registry import Database, OperationalError, jobs

routes = APIRouter()

_STATES = (*jobs.LIVE, *jobs.FINAL)


@routes.get(
    "/metrics",
    tags=["operations"],
    operation_id="metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={
        200: {
            "description": "One figure a line.",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": 'octet_jobs{state="running"} 1\n'}},
        },
    },
)
def metrics(services: Provided) -> Response:
    """Requests, latencies, queues, batches, memory and jobs, in the text format that Prometheus reads. Have it look
    here every few seconds. Figures of inference have Triton's names too, so that its dashboards work.
    """
    body = generate_latest(services.metrics) + "".join(f"{line}\n" for line in _told(services.database)).encode()
    return Response(body, media_type=CONTENT_TYPE_LATEST)


def _told(database: Database) -> list[str]:
    """Of the registry; while it is away, that it is."""
    lines = ["# HELP octet_registry_up Whether the registry answers.", "# TYPE octet_registry_up gauge"]
    try:
        with database.reading() as session:
            counts = jobs.counts(session)
    except OperationalError:
        return [*lines, "octet_registry_up 0"]
    lines += ["octet_registry_up 1", "# HELP octet_jobs Jobs in the registry, by state.", "# TYPE octet_jobs gauge"]
    return lines + [f'octet_jobs{{state="{state}"}} {counts.get(state, 0)}' for state in _STATES]
