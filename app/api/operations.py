"""`/docs` and `/metrics`"""

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app.api.services import Provided
from app.registry import jobs

routes = APIRouter()

_STATES = (*jobs.LIVE, *jobs.FINAL)


@routes.get("/docs", include_in_schema=False)
def docs() -> HTMLResponse:
    """Swagger UI, with nothing from beyond this server."""
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Octet",
        swagger_js_url="/static/swagger/swagger-ui-bundle.js",
        swagger_css_url="/static/swagger/swagger-ui.css",
        swagger_favicon_url="/static/swagger/favicon-32x32.png",
        swagger_ui_parameters={"validatorUrl": None, "tryItOutEnabled": True},
    )


@routes.get("/metrics", tags=["operations"], summary="Figures for Prometheus", response_class=Response)
def metrics(services: Provided) -> Response:
    with services.database.reading() as session:
        counts = jobs.counts(session)
    lines = ["# HELP octet_jobs Jobs in the registry, by state.", "# TYPE octet_jobs gauge"]
    lines += [f'octet_jobs{{state="{state}"}} {counts.get(state, 0)}' for state in _STATES]
    body = generate_latest(services.metrics) + ("\n".join(lines) + "\n").encode()
    return Response(body, media_type=CONTENT_TYPE_LATEST)
