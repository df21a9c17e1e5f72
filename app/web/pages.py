"""The page at `/`: models and their variants, at a glance."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.registry import Database, comparison, models, variants
from app.registry.comparison import Row
from app.web.rendering import environment

routes = APIRouter()

_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'"}


class _HasDatabase(Protocol):
    database: Database


@dataclass(frozen=True)
class ModelSection:
    """A model and its variants, one row each."""

    name: str
    rows: Sequence[Row]


@routes.get("/", include_in_schema=False)
def index(request: Request) -> HTMLResponse:
    services = cast(_HasDatabase, request.app.state.services)
    with services.database.reading() as session:
        sections = [
            ModelSection(model.name, comparison.compared(model, variants.listed(session, model)))
            for model in models.listed(session)
        ]
    return HTMLResponse(render_index(sections), headers=_HEADERS)


def render_index(sections: Sequence[ModelSection]) -> str:
    """The page for these models; names come from clients and are escaped."""
    return environment.get_template("index.html").render(sections=sections)
