"""The REST face of the Open Inference Protocol V2."""

from collections.abc import Callable
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from app import __version__
from app.engines import TensorSpec
from app.errors import TooLarge, Unsupported
from app.inference import messages
from app.inference.dataplane import PLATFORM, DataPlane, Served
from app.registry import Database

HEADER_LENGTH = "Inference-Header-Content-Length"

T = TypeVar("T")

_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {"type": "string"},
        "parameters": {"type": "object"},
        "data": {"type": "array", "items": {}},
    },
}
_INFER_DOCS: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["inputs"],
                    "properties": {
                        "id": {"type": "string"},
                        "parameters": {"type": "object"},
                        "inputs": {"type": "array", "items": _TENSOR},
                        "outputs": {"type": "array", "items": {"type": "object"}},
                    },
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    },
    "parameters": [
        {
            "name": HEADER_LENGTH,
            "in": "header",
            "required": False,
            "schema": {"type": "integer"},
            "description": "Bytes of JSON at the start of the body; binary tensors follow.",
        }
    ],
}


class _Server:
    """What the routes share. Work that blocks runs in threads, at most `threads` at once."""

    def __init__(self, dataplane: DataPlane, *, threads: int, max_bytes: int) -> None:
        self.dataplane = dataplane
        self.max_bytes = max_bytes
        self._limiter = CapacityLimiter(threads)

    async def blocking(self, work: Callable[..., T], *arguments: Any) -> T:
        return await to_thread.run_sync(work, *arguments, limiter=self._limiter)

    async def infer(self, request: Request, model: str, version: str | None) -> Response:
        _check_encoding(request)
        body = await _body(request, self.max_bytes)
        return await self.blocking(self._infer, model, version, body, request.headers.get(HEADER_LENGTH))

    def _infer(self, model: str, version: str | None, body: bytes, header_length: str | None) -> Response:
        served = self.dataplane.resolve(model, version)
        parsed = messages.parse(memoryview(body), header_length, served.inputs)
        pieces, json_length = messages.render(self.dataplane.infer(served, parsed))
        headers = {"X-Model-Variant": served.label}
        if json_length is None:
            return Response(b"".join(pieces), headers=headers, media_type="application/json")
        headers[HEADER_LENGTH] = str(json_length)
        return Response(b"".join(pieces), headers=headers, media_type="application/octet-stream")


def router(dataplane: DataPlane, database: Database, *, server_name: str, threads: int, max_bytes: int) -> APIRouter:
    """All routes under `/v2`."""
    server = _Server(dataplane, threads=threads, max_bytes=max_bytes)
    routes = APIRouter(prefix="/v2", tags=["inference"])
    _add_server_routes(routes, database, server_name)
    _add_repository_routes(routes, server)
    _add_model_routes(routes, server)
    return routes


def _add_server_routes(routes: APIRouter, database: Database, server_name: str) -> None:
    @routes.get("", summary="What this server is")
    async def server_metadata() -> dict[str, Any]:
        return {
            "name": server_name,
            "version": __version__,
            "extensions": ["binary_tensor_data", "classification", "model_configuration"],
        }

    @routes.get("/health/live", summary="Whether the process answers")
    async def live() -> Response:
        return Response()

    @routes.get("/health/ready", summary="Whether requests can be served", responses={503: {}})
    def ready() -> Response:
        return Response(status_code=200 if database.reachable() else 503)


def _add_repository_routes(routes: APIRouter, server: _Server) -> None:
    @routes.post("/repository/index", summary="All variants of all models")
    async def repository_index(request: Request) -> Response:
        body = await _body(request, 65_536)
        wanted = messages.json_object(body) if body.strip() else {}
        rows = await server.blocking(server.dataplane.index)
        return JSONResponse([row for row in rows if not wanted.get("ready") or row["state"] == "READY"])


def _add_model_routes(routes: APIRouter, server: _Server) -> None:
    """Each route twice: for a model's default, or `model@variant`, and for a version: an integer or a label."""

    async def metadata(request: Request) -> Response:
        return JSONResponse(_metadata(await server.blocking(server.dataplane.resolve, *_named(request))))

    async def ready(request: Request) -> Response:
        await server.blocking(server.dataplane.resolve, *_named(request))
        return Response()

    async def config(request: Request) -> Response:
        return JSONResponse(_config(await server.blocking(server.dataplane.resolve, *_named(request))))

    async def infer(request: Request) -> Response:
        return await server.infer(request, *_named(request))

    for prefix, suffix, names in (
        ("/models/{model}", "", ["model"]),
        ("/models/{model}/versions/{version}", "_version", ["model", "version"]),
    ):
        for path, method, endpoint, summary, docs in (
            ("", "GET", metadata, "A model's inputs and outputs", {}),
            ("/ready", "GET", ready, "Whether the model can be served", {}),
            ("/config", "GET", config, "A model's configuration, in Triton's terms", {}),
            ("/infer", "POST", infer, "Run the model", _INFER_DOCS),
        ):
            routes.add_api_route(
                prefix + path,
                endpoint,
                methods=[method],
                operation_id=f"{endpoint.__name__}{suffix}",
                summary=summary,
                openapi_extra=docs | {"parameters": [*map(_path_parameter, names), *docs.get("parameters", [])]},
            )


def _named(request: Request) -> tuple[str, str | None]:
    """The model and version of the path; the query never counts."""
    return request.path_params["model"], request.path_params.get("version")


def _path_parameter(name: str) -> dict[str, Any]:
    meaning = {
        "model": "A model's name, or `model@variant`.",
        "version": "An integer version, or a variant's label.",
    }
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "description": meaning[name],
    }


def _metadata(served: Served) -> dict[str, Any]:
    return {
        "name": served.model,
        "versions": [str(version) for version in served.versions],
        "platform": PLATFORM,
        "inputs": [spec.as_json() for spec in served.inputs],
        "outputs": [spec.as_json() for spec in served.outputs],
    }


def _config(served: Served) -> dict[str, Any]:
    # max_batch_size 0: the shapes hold every axis, the batch's too.
    return {
        "name": served.model,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "version_policy": {"specific": {"versions": [served.version]}},
        "max_batch_size": 0,
        "input": [_config_tensor(spec) for spec in served.inputs],
        "output": [_config_tensor(spec) for spec in served.outputs],
    }


def _config_tensor(spec: TensorSpec) -> dict[str, Any]:
    datatype = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{datatype}", "dims": list(spec.shape)}


def _check_encoding(request: Request) -> None:
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise Unsupported(f"Content-Encoding '{encoding[:40]}' is not offered; send the body as it is")


async def _body(request: Request, max_bytes: int) -> bytes:
    """The whole body; raises `TooLarge` once more than `max_bytes` are announced or have come."""
    too_large = TooLarge(f"the body is larger than the {max_bytes} bytes that a request may have")
    announced = request.headers.get("Content-Length", "0")
    if announced.isdigit() and int(announced) > max_bytes:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise too_large
    return bytes(body)
