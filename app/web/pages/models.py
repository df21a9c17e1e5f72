"""`/`: all models, and uploading one."""

from fastapi import Request
from fastapi.responses import Response

from app.registry import models
from app.web.answers import page, page_routes, provided

routes = page_routes()


@routes.get("/")
def index(request: Request) -> Response:
    with provided(request).database.reading() as session:
        return page("pages/models.html", place="Models", models=models.listed(session))
