"""What each route of the REST face does; `rest` says where they are."""

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.errors import Unsupported
from app.inference import body, compression, descriptions, fixed_settings, messages
from app.inference.core import Core
from app.inference.dataplane import Asked, InferenceRequest, InferenceResponse, Served, check_loaded
from app.inference.disconnect import unless_disconnected
from app.inference.json_text import json_object
from app.inference.parameters import check_loaded_as_is, checked_parameters, flag
from app.inference.responses import JsonResponse, PiecesResponse
from app.inference.timing import server_timing
from app.logs import REQUEST_ID

_HEADER_LENGTH = b"inference-header-content-length"

#: Bodies of everything but inference.
_SMALL_BYTES = 65_536
#: Up to this size, making an answer takes less time than having a thread do it.
_RENDERED_AT_ONCE_BYTES = 16_384
#: What nginx logs where a client left before its answer; nobody reads it.
_CLIENT_CLOSED_REQUEST = 499

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """`max_bytes`: of a body, unpacked too; `body_seconds`: for it to come."""

    max_bytes: int
    body_seconds: float


class Endpoints:
    """The endpoints. Work that blocks runs in threads, inference in at most `core.threads` at once."""

    def __init__(self, core: Core, limits: Limits) -> None:
        self._dataplane = core.dataplane
        self._recent = core.recent
        self._trials = core.trials
        self._repository = core.repository
        self._database = core.database
        self._draining = core.draining
        self._on_answer = core.on_answer
        self._name = core.server_name
        self._logging = fixed_settings.logging_settings(core.log_level)
        self._limits = limits
        self._inference = CapacityLimiter(core.threads)
        self._control = core.control

    # The server

    async def server_metadata(self, _: Request) -> Response:
        return JsonResponse(descriptions.server(self._name))

    async def live(self, _: Request) -> Response:
        return Response()

    async def ready(self, _: Request) -> Response:
        if self._draining.active:
            return JsonResponse({"error": "the server is stopping"}, 503)
        # Where others cannot answer either, taking this one out of service helps nobody.
        if await to_thread.run_sync(self._database.reachable) or self._recent.knows_any:
            return Response()
        return JsonResponse({"error": "the registry does not answer"}, 503)

    async def logging_settings(self, request: Request) -> Response:
        return await self._fixed(request, self._logging)

    async def trace_settings(self, request: Request) -> Response:
        return await self._fixed(request, fixed_settings.TRACE)

    async def model_trace_settings(self, request: Request) -> Response:
        await to_thread.run_sync(self._dataplane.resolve, *_named(request))
        return await self._fixed(request, fixed_settings.TRACE)

    async def shared_memory(self, _: Request) -> Response:
        raise Unsupported("shared memory is not offered; send tensors in the body")

    # Models

    async def model_metadata(self, request: Request) -> Response:
        return JsonResponse(descriptions.metadata(await to_thread.run_sync(self._dataplane.resolve, *_named(request))))

    async def model_ready(self, request: Request) -> Response:
        check_loaded(await to_thread.run_sync(self._dataplane.resolve, *_named(request)))
        return Response()

    async def model_config(self, request: Request) -> Response:
        return JsonResponse(descriptions.config(await to_thread.run_sync(self._dataplane.resolve, *_named(request))))

    async def model_statistics(self, request: Request) -> Response:
        return await self._statistics(*_named(request))

    async def statistics(self, _: Request) -> Response:
        return await self._statistics()

    async def _statistics(self, name: str | None = None, version: str | None = None) -> Response:
        counted = await to_thread.run_sync(self._dataplane.statistics, name, version)
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

    async def infer(self, request: Request) -> Response:
        headers = Headers(request)
        try:
            encoding = compression.checked_encoding(headers.get(b"content-encoding"))
        except Unsupported as error:
            # Of an error with a cause, the cause alone would be answered, without this header.
            raise HTTPException(501, error.detail, {"Accept-Encoding": ", ".join(compression.ENCODINGS)}) from None
        content = await body.received(request, max_bytes=self._limits.max_bytes, seconds=self._limits.body_seconds)
        length = headers.get(_HEADER_LENGTH)
        known = self._recent.remembered(*_named(request))
        if known is not None and encoding is None and messages.parses_at_once(content, length, known.inputs):
            served, parsed = known, messages.parse(content, length, known.inputs)
        else:
            parse = partial(self._parsed, request, content, encoding, length)
            served, parsed = await to_thread.run_sync(parse, limiter=self._inference)
        run = partial(self._run, request)
        response = await self._trials.answer(served, parsed, headers.get, REQUEST_ID.get(), run)
        if response is None:
            return Response(status_code=_CLIENT_CLOSED_REQUEST)
        if self._on_answer is not None:
            self._on_answer(response)
        wished = compression.accepted(headers.get(b"accept-encoding"))
        if _is_rendered_at_once(response, wished):
            return rendered(response, wished)
        return await to_thread.run_sync(rendered, response, wished, limiter=self._inference)

    async def _run(self, request: Request, asked: Asked) -> InferenceResponse | None:
        return self._dataplane.infer_at_once(asked) or await unless_disconnected(request, self._dataplane.infer(asked))

    def _parsed(
        self, request: Request, content: memoryview, encoding: str | None, length: str | None
    ) -> tuple[Served, InferenceRequest]:
        served = self._recent.resolve(*_named(request))
        if encoding is not None:
            content = compression.decompressed(content, encoding, self._limits.max_bytes)
        return served, messages.parse(content, length, served.inputs)

    async def _optional_object(self, request: Request) -> dict[str, Any]:
        raw = await body.received(request, max_bytes=_SMALL_BYTES, seconds=self._limits.body_seconds)
        return json_object(raw) if bytes(raw).strip() else {}

    async def _controlled(self, work: Callable[..., T], *arguments: Any) -> T:
        # With its context: who asks, and the name of the request, go along.
        run = partial(copy_context().run, work, *arguments)
        return await asyncio.get_running_loop().run_in_executor(self._control, run)

    async def _fixed(self, request: Request, settings: Any) -> Response:
        if request.method == "POST":
            fixed_settings.check_unchanged(settings, await self._optional_object(request))
        return JsonResponse(settings)


class Headers:
    """A request's headers, found by their lower-case names in one look each."""

    def __init__(self, request: Request) -> None:
        self._headers = dict(request.scope["headers"])

    def get(self, name: bytes) -> str | None:
        value = self._headers.get(name)
        return None if value is None else value.decode("latin-1")


def _is_rendered_at_once(response: InferenceResponse, encoding: str | None) -> bool:
    """Whether making the answer takes less time than having a thread do it: binary tensors leave as they lie."""
    made = (output for output in response.outputs if encoding or not output.binary or output.datatype == "BYTES")
    return sum(output.array.nbytes for output in made) <= _RENDERED_AT_ONCE_BYTES


def rendered(response: InferenceResponse, encoding: str | None) -> Response:
    """The answer as it is, or in the `encoding` that the client wishes where that makes less of it."""
    pieces, json_length = messages.render(response)
    headers = [(b"x-model-variant", response.served.label.encode())]
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
