"""The REST face of the Open Inference Protocol V2: its routes, and how they are documented."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from app.inference import documentation
from app.inference.endpoints import Endpoints

Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]


class PlainRoute(APIRoute):
    """A route in the API's documentation whose endpoint gets the request as it is: nothing is parsed or validated."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return endpoint


def router(server: Endpoints) -> APIRouter:
    """All routes under `/v2`."""
    routes = APIRouter(prefix="/v2", tags=["inference"], route_class=PlainRoute)
    _add_model_routes(routes, server)
    _add_server_routes(routes, server)
    _add_repository_routes(routes, server)
    return routes


def _add(routes: APIRouter, path: str, method: str, endpoint: Endpoint, summary: str, **docs: Any) -> None:
    described = [*documentation.path_parameters(path), *docs.pop("parameters", [])]
    name = getattr(endpoint, "__name__", "endpoint")
    routes.add_api_route(
        path,
        endpoint,
        methods=[method],
        operation_id=_operation(method, name, path),
        summary=summary,
        openapi_extra=docs | ({"parameters": described} if described else {}),
    )


def _operation(method: str, name: str, path: str) -> str:
    version = "_version" if "{version}" in path else ""
    change = "_change" if method == "POST" and name.endswith("settings") else ""
    return name + version + change


def _add_model_routes(routes: APIRouter, server: Endpoints) -> None:
    """Each route twice: for a model's default, or `model@variant`, and for a version: an integer or a label."""
    # Inference first: routes are tried in order. `stats` before the models, of which none may be called that.
    for prefix in ("/models/{model}", "/models/{model}/versions/{version}"):
        _add(routes, prefix + "/infer", "POST", server.infer, "Run the model", **documentation.INFER)
    _add(routes, "/models/stats", "GET", server.statistics, "What all models have answered so far")
    for prefix in ("/models/{model}", "/models/{model}/versions/{version}"):
        _add(routes, prefix, "GET", server.model_metadata, "A model's inputs and outputs")
        _add(routes, prefix + "/ready", "GET", server.model_ready, "Whether the model can be served")
        _add(routes, prefix + "/config", "GET", server.model_config, "A model's configuration, in Triton's terms")
        _add(routes, prefix + "/stats", "GET", server.model_statistics, "What the model has answered so far")


def _add_server_routes(routes: APIRouter, server: Endpoints) -> None:
    _add(routes, "", "GET", server.server_metadata, "What this server is")
    _add(routes, "/health/live", "GET", server.live, "Whether the process answers")
    _add(routes, "/health/ready", "GET", server.ready, "Whether requests can be served")
    for path, endpoint, what in (
        ("/logging", server.logging_settings, "The logging settings"),
        ("/trace/setting", server.trace_settings, "The trace settings"),
        ("/models/{model}/trace/setting", server.model_trace_settings, "A model's trace settings"),
    ):
        _add(routes, path, "GET", endpoint, what)
        _add(routes, path, "POST", endpoint, what + ", which are fixed", **documentation.OPTIONAL_OBJECT)
    for kind in ("systemsharedmemory", "cudasharedmemory"):
        routes.add_api_route(
            f"/{kind}/{{path:path}}", server.shared_memory, methods=["GET", "POST"], include_in_schema=False
        )


def _add_repository_routes(routes: APIRouter, server: Endpoints) -> None:
    for path, endpoint, summary in (
        ("/repository/index", server.index, "All variants of all models"),
        ("/repository/models/{model}/load", server.load, "Bring a variant into memory"),
        ("/repository/models/{model}/unload", server.unload, "Free the memory that a model's variants take"),
    ):
        _add(routes, path, "POST", endpoint, summary, **documentation.OPTIONAL_OBJECT)
