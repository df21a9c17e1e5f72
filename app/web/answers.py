"""Pages as answers: the one place that says what a browser may do with them."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, cast

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles

from app.errors import NotFound
from app.registry import Database
from app.web.rendering import environment

#: Nothing from elsewhere, nothing inline, nothing evaluated.
_POLICY = "; ".join(
    f"{directive} {sources}"
    for directive, sources in {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "font-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }.items()
)

_NO_SNIFFING = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}
_HEADERS = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store", **_NO_SNIFFING}


@dataclass(frozen=True)
class Place:
    """An entry of the navigation."""

    name: str
    path: str


#: What every page leads to.
PLACES = (Place("Models", "/"), Place("Jobs", "/jobs"), Place("Datasets", "/datasets"))

#: What a model's page leads to, below `/models/{model}`.
MODEL_PLACES = (Place("Variants", ""), Place("Quantize", "/quantize"))


class Provided(Protocol):
    """What pages stand on, of that which `app.main` keeps in the state of the application."""

    @property
    def database(self) -> Database: ...


def provided(request: Request) -> Provided:
    return cast(Provided, request.app.state.services)


def page(
    template: str, /, *, place: str, status: int = 200, headers: dict[str, str] | None = None, **values: Any
) -> Response:
    """The page that `template` makes of `values`; `place` names the entry of the navigation that it belongs to."""
    content = environment.get_template(template).render(place=place, places=PLACES, model_places=MODEL_PLACES, **values)
    return HTMLResponse(content, status, _HEADERS | (headers or {}))


class _PageRoute(APIRoute):
    """Answers what is not there with a page, as browsers are who ask."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await handler(request)
            except NotFound as error:
                return page("pages/not_found.html", place="", status=404, detail=error.detail)

        return answered


def page_routes() -> APIRouter:
    """Routes of pages, which are no part of the API."""
    return APIRouter(route_class=_PageRoute, include_in_schema=False)


class Assets(StaticFiles):
    """Files of the pages. Browsers ask whether one changed before they use what they kept: versions do not mix."""

    def file_response(self, *arguments: Any, **named: Any) -> Response:
        response = super().file_response(*arguments, **named)
        response.headers.update(_NO_SNIFFING | {"Cache-Control": "no-cache"})
        return response
