"""The REST face of the Open Inference Protocol V2: its routes, and how they are documented."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from app.inference import documentation
from app.inference.documentation import Operation
from app.inference.endpoints import Endpoints

Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]


class PlainRoute(APIRoute):
    """A route in the API's documentation whose endpoint gets the request as it is: nothing is parsed or validated."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return endpoint


def router(server: Endpoints) -> APIRouter:
    """All routes under `/v2`."""
    routes = APIRouter(prefix="/v2", route_class=PlainRoute)
    _add_model_routes(routes, server)
    _add_server_routes(routes, server)
    _add_repository_routes(routes, server)
    return routes


def _add(routes: APIRouter, path: str, method: str, endpoint: Endpoint, name: str, operation: Operation) -> None:
    routes.add_api_route(
        path,
        endpoint,
        methods=[method],
        tags=[operation.tag],
        operation_id=name,
        summary=operation.summary,
        description=operation.description,
        # The framework would say of each answer that it is JSON.
        response_class=Response,
        openapi_extra=operation.extra(path),
    )


def _add_model_routes(routes: APIRouter, server: Endpoints) -> None:
    """Each route twice: for a model's default, or `model@variant`, and for a version: an integer or a label."""
    default, version = "/models/{model}", "/models/{model}/versions/{version}"
    # Inference first: routes are tried in order. `stats` before the models, of which none may be called that.
    _add(routes, default + "/infer", "POST", server.infer_route, "infer", documentation.INFER)
    _add(routes, version + "/infer", "POST", server.infer_route, "infer_version", documentation.INFER)
    _add(routes, "/models/stats", "GET", server.statistics, "statistics", documentation.STATISTICS)
    for prefix, ending in ((default, ""), (version, "_version")):
        for part, endpoint, name, operation in (
            ("", server.model_metadata, "model_metadata", documentation.MODEL_METADATA),
            ("/ready", server.model_ready, "model_ready", documentation.MODEL_READY),
            ("/config", server.model_config, "model_config", documentation.MODEL_CONFIG),
            ("/stats", server.model_statistics, "model_statistics", documentation.MODEL_STATISTICS),
        ):
            described = documentation.of_version(operation) if ending else operation
            _add(routes, prefix + part, "GET", endpoint, name + ending, described)


def _add_server_routes(routes: APIRouter, server: Endpoints) -> None:
    _add(routes, "", "GET", server.server_metadata, "server_metadata", documentation.SERVER_METADATA)
    _add(routes, "/health/live", "GET", server.live, "live", documentation.LIVE)
    _add(routes, "/health/ready", "GET", server.ready, "ready", documentation.READY)
    for path, endpoint, name, reading, changing in (
        ("/logging", server.logging_settings, "logging_settings", documentation.LOGGING, documentation.LOGGING_CHANGE),
        ("/trace/setting", server.trace_settings, "trace_settings", documentation.TRACE, documentation.TRACE_CHANGE),
        (
            "/models/{model}/trace/setting",
            server.model_trace_settings,
            "model_trace_settings",
            documentation.MODEL_TRACE,
            documentation.MODEL_TRACE_CHANGE,
        ),
    ):
        _add(routes, path, "GET", endpoint, name, reading)
        _add(routes, path, "POST", endpoint, name + "_change", changing)
    for kind in ("systemsharedmemory", "cudasharedmemory"):
        routes.add_api_route(
            f"/{kind}/{{path:path}}", server.shared_memory, methods=["GET", "POST"], include_in_schema=False
        )


def _add_repository_routes(routes: APIRouter, server: Endpoints) -> None:
    for path, endpoint, name, operation in (
        ("/repository/index", server.index, "repository_index", documentation.INDEX),
        ("/repository/models/{model}/load", server.load, "repository_load", documentation.LOAD),
        ("/repository/models/{model}/unload", server.unload, "repository_unload", documentation.UNLOAD),
    ):
        _add(routes, path, "POST", endpoint, name, operation)
