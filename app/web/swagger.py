"""The page at `/docs`: Swagger UI, with nothing from beyond this server, and no script but its files."""

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from app.web.rendering import environment

routes = APIRouter()

# Swagger UI sets styles of its elements, and draws icons from data.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'"
    " 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}


@routes.get("/docs", include_in_schema=False)
def docs() -> HTMLResponse:
    return HTMLResponse(environment.get_template("swagger.html").render(), headers=_HEADERS)
