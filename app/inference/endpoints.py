"""What each route of the REST face does; `rest` says where they are."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from anyio import to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from app.caller import CALLER, Caller
from app.engines import TensorSpec
from app.errors import Unsupported
from app.inference import body, compression, descriptions, fixed_settings, messages
from app.inference.backend import Backend
from app.inference.disconnect import unless_disconnected
from app.inference.json_text import json_object
from app.inference.parameters import check_loaded_as_is, checked_parameters, flag
from app.inference.request import InferenceRequest
from app.inference.response import InferenceResponse, server_timing
from app.inference.responses import JsonResponse, PiecesResponse
from app.inference.served_variant import ServedVariant, resolve
from app.logs import REQUEST_ID
from app.serving.batch_queue import Answer

_HEADER_LENGTH = b"inference-header-content-length"
_CONTENT_ENCODING = b"content-encoding"
_ACCEPT_ENCODING = b"accept-encoding"
_VARIANT = b"x-model-variant"

#: Bodies of everything but inference.
_SMALL_BYTES = 65_536
#: Up to this size, making an answer takes less time than having a thread do it.
_RENDERED_QUICKLY_BYTES = 16_384
#: What nginx logs where a client left before its answer; nobody reads it.
_CLIENT_CLOSED_REQUEST = 499

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """`max_bytes`: of a body, unpacked too; `body_seconds`: for it to come."""

    max_bytes: int
    body_seconds: float


class Endpoints:
    """The endpoints. Work that blocks runs in threads."""

    def __init__(self, backend: Backend, limits: Limits) -> None:
        self._core = backend.core
        self._variants = backend.variants
        self._variant_statistics = backend.statistics
        self._repository = backend.repository
        self._database = backend.database
        self._draining = backend.draining
        self._name = backend.server_name
        self._logging = fixed_settings.logging_settings(backend.log_level)
        self._limits = limits
        self._control = backend.control

    # The server

    async def server_metadata(self, _: Request) -> Response:
        return JsonResponse(descriptions.server(self._name))

    async def live(self, _: Request) -> Response:
        return Response()

    async def ready(self, _: Request) -> Response:
        if self._draining.active:
            return JsonResponse({"error": "the server is stopping"}, 503)
        # Where others cannot answer either, taking this one out of service helps nobody.
        if await to_thread.run_sync(self._database.reachable) or self._variants.has_any:
            return Response()
        return JsonResponse({"error": "the registry does not answer"}, 503)

    async def logging_settings(self, request: Request) -> Response:
        return await self._fixed(request, self._logging)

    async def trace_settings(self, request: Request) -> Response:
        return await self._fixed(request, fixed_settings.TRACE)

    async def model_trace_settings(self, request: Request) -> Response:
        await self._resolved(request)
        return await self._fixed(request, fixed_settings.TRACE)

    async def shared_memory(self, _: Request) -> Response:
        raise Unsupported("shared memory is not offered; send tensors in the body")

    # Models

    async def model_metadata(self, request: Request) -> Response:
        return JsonResponse(descriptions.metadata(await self._resolved(request)))

    async def model_ready(self, request: Request) -> Response:
        (await self._resolved(request)).check_loaded()
        return Response()

    async def model_config(self, request: Request) -> Response:
        return JsonResponse(descriptions.config(await self._resolved(request)))

    async def _resolved(self, request: Request) -> ServedVariant:
        return await to_thread.run_sync(resolve, self._database, *_named(request))

    async def model_statistics(self, request: Request) -> Response:
        return await self._statistics(*_named(request))

    async def statistics(self, _: Request) -> Response:
        return await self._statistics()

    async def _statistics(self, name: str | None = None, version: str | None = None) -> Response:
        counted = await to_thread.run_sync(self._variant_statistics.of, name, version)
        return JsonResponse({"model_stats": [descriptions.statistics(each) for each in counted]})

    # The repository

    async def index(self, request: Request) -> Response:
        wanted = await self._optional_object(request)
        only_ready = flag("ready", wanted)
        rows = await to_thread.run_sync(self._repository.index)
        return JsonResponse([row for row in rows if not only_ready or row["state"] == "READY"])

    async def load(self, request: Request) -> Response:
        parameters = checked_parameters("the request", await self._optional_object(request))
        check_loaded_as_is(parameters)
        await self._controlled(self._repository.load, request.path_params["model"])
        return JsonResponse({})

    async def unload(self, request: Request) -> Response:
        parameters = checked_parameters("the request", await self._optional_object(request))
        # No model here depends on another, so both values mean the same.
        flag("unload_dependents", parameters)
        await self._controlled(self._repository.unload, request.path_params["model"])
        return JsonResponse({})

    # Inference

    async def infer_route(self, request: Request) -> Response:
        """As the framework calls it; the front calls `infer` itself."""
        scope = request.scope
        model, version = _named(request)
        return await self.infer(model, version, dict(scope["headers"]), request.receive, CALLER.get(), REQUEST_ID.get())

    async def infer(
        self,
        model: str,
        version: str | None,
        headers: Mapping[bytes, bytes],
        receive: Receive,
        caller: Caller,
        request_id: str,
    ) -> Response:
        """The response to an inference request, whose body comes from `receive`."""
        encoding = None
        if _CONTENT_ENCODING in headers:
            try:
                encoding = compression.checked_encoding(headers[_CONTENT_ENCODING].decode("latin-1"))
            except Unsupported as error:
                # Of an error with a cause, the cause alone would be answered, without this header.
                raise HTTPException(501, error.detail, {"Accept-Encoding": ", ".join(compression.ENCODINGS)}) from None
        limits = self._limits
        content = await body.received(headers, receive, max_bytes=limits.max_bytes, seconds=limits.body_seconds)
        request = HttpRequest(model, version, headers, receive, request_id, content, encoding, limits.max_bytes)
        response = await self._core.answer(request, caller)
        if response is None:
            return Response(status_code=_CLIENT_CLOSED_REQUEST)
        accepted = request.header(_ACCEPT_ENCODING)
        wished = None if accepted is None else compression.accepted(accepted)
        if _is_rendered_quickly(response, wished):
            return rendered(response, wished)
        return await to_thread.run_sync(rendered, response, wished, limiter=self._core.limiter)

    async def _optional_object(self, request: Request) -> dict[str, Any]:
        raw = await body.received(
            dict(request.scope["headers"]), request.receive, max_bytes=_SMALL_BYTES, seconds=self._limits.body_seconds
        )
        return json_object(raw) if bytes(raw).strip() else {}

    async def _controlled(self, work: Callable[..., T], *arguments: Any) -> T:
        # With its context: who asks, and the name of the request, go along.
        run = partial(copy_context().run, work, *arguments)
        return await asyncio.get_running_loop().run_in_executor(self._control, run)

    async def _fixed(self, request: Request, settings: Any) -> Response:
        if request.method == "POST":
            fixed_settings.check_unchanged(settings, await self._optional_object(request))
        return JsonResponse(settings)


class HttpRequest:
    """An inference request as HTTP brings it. `content`: its whole body, in `encoding`; unpacked, `max_bytes` at most.

    Of several headers of one name, the last counts.
    """

    __slots__ = ("_content", "_encoding", "_headers", "_max_bytes", "_receive", "model", "request_id", "version")

    def __init__(
        self,
        model: str,
        version: str | None,
        headers: Mapping[bytes, bytes],
        receive: Receive,
        request_id: str,
        content: bytes,
        encoding: str | None,
        max_bytes: int,
    ) -> None:
        self.model = model
        self.version = version
        self.request_id = request_id
        self._headers = headers
        self._receive = receive
        self._content = content
        self._encoding = encoding
        self._max_bytes = max_bytes

    def header(self, name: bytes) -> str | None:
        """The header of that lower-case name."""
        value = self._headers.get(name)
        return None if value is None else value.decode("latin-1")

    def parses_quickly(self, inputs: Sequence[TensorSpec]) -> bool:
        """Whether `parse` takes less time than handing it to a thread."""
        return self._encoding is None and messages.parses_quickly(
            len(self._content), self.header(_HEADER_LENGTH), inputs
        )

    def parse(self, inputs: Sequence[TensorSpec]) -> InferenceRequest:
        """The request to a variant of these inputs. Raises `Invalid` or `TooLarge`."""
        content: bytes | memoryview = self._content
        if self._encoding is not None:
            content = compression.decompressed(memoryview(content), self._encoding, self._max_bytes)
        return messages.parse(content, self.header(_HEADER_LENGTH), inputs)

    async def wait_for(self, answer: "asyncio.Future[Answer]") -> Answer | None:
        """The answer; None once the client has closed its connection."""
        return await unless_disconnected(self._receive, answer)


def _is_rendered_quickly(response: InferenceResponse, encoding: str | None) -> bool:
    """Whether rendering takes less time than having a thread do it: binary tensors leave as they lie."""
    size = 0
    for output in response.outputs:
        if encoding or not output.binary or output.datatype == "BYTES":
            size += output.array.nbytes
    return size <= _RENDERED_QUICKLY_BYTES


def rendered(response: InferenceResponse, encoding: str | None) -> PiecesResponse:
    """The response as it is, or in the `encoding` that the client wishes where that makes less of it."""
    pieces, json_length = messages.render(response)
    headers = [(_VARIANT, response.variant.label.encode())]
    if json_length is None:
        headers.append((b"content-type", b"application/json"))
    else:
        headers.append((b"content-type", b"application/octet-stream"))
        headers.append((_HEADER_LENGTH, b"%d" % json_length))
    if response.experiment is not None and response.reason is not None:
        headers.append((b"x-experiment", response.experiment.encode()))
        headers.append((b"x-assignment-reason", response.reason.value.encode()))
    if response.timing is not None:
        headers.append((b"server-timing", server_timing(response.timing).encode()))
    if encoding is not None and compression.pays(pieces):
        headers.append((b"content-encoding", encoding.encode()))
        pieces = list(compression.compressed(pieces, encoding))
    return PiecesResponse(pieces, headers)


def _named(request: Request) -> tuple[str, str | None]:
    """The model and version of the path; the query never counts."""
    return request.path_params["model"], request.path_params.get("version")
