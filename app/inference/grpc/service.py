"""What each call of the gRPC face does; `server` says how they are reached."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from anyio import to_thread
from grpc.aio import ServicerContext

from app.caller import CALLER
from app.engines import TensorSpec
from app.errors import Conflict, NotFound, Unavailable
from app.inference import descriptions, fixed_settings
from app.inference.backend import Backend
from app.inference.grpc import messages
from app.inference.grpc.schema import METHODS
from app.inference.grpc.statuses import status_of
from app.inference.parameters import check_loaded_as_is, checked_parameters, flag
from app.inference.request import InferenceRequest
from app.inference.response import InferenceResponse, server_timing
from app.inference.served_variant import ServedVariant, resolve
from app.logs import REQUEST_ID, new_request_id, request_id_in
from app.serving.batch_queue import Answer

#: Up to this size, making an answer takes less time than having a thread do it.
_RENDERED_QUICKLY_BYTES = 16_384
#: Requests of one stream that are taken before the first of them is answered.
_STREAM_AHEAD = 64

_INFER = METHODS["ModelInfer"]
_StreamResponse = METHODS["ModelStreamInfer"].response

Context = ServicerContext[bytes, bytes]
#: A request's message.
Message = Any
#: The fields of an answer's message.
Fields = dict[str, Any]
T = TypeVar("T")


class Service:
    """A method for each call, named after it. Work that blocks runs in threads."""

    def __init__(self, backend: Backend) -> None:
        self._core = backend.core
        self._variants = backend.variants
        self._variant_statistics = backend.statistics
        self._repository = backend.repository
        self._database = backend.database
        self._draining = backend.draining
        self._name = backend.server_name
        self._logging = fixed_settings.logging_settings(backend.log_level)
        self._control = backend.control
        self._gate = backend.gate
        self._reading: set[asyncio.Task[None]] = set()

    async def admit(self, name: str, context: Context) -> None:
        """Raises `Unauthenticated` or `Forbidden` where the client may not make the call `name`."""
        metadata = dict(context.invocation_metadata() or ())
        REQUEST_ID.set(request_id_in([(b"x-request-id", _bytes(metadata.get("x-request-id", "")))]))
        if self._gate is not None:
            CALLER.set(await self._gate.admit_call(name, metadata))

    # The server

    async def server_live(self, _: Message) -> Fields:
        return {"live": True}

    async def server_ready(self, _: Message) -> Fields:
        able = await to_thread.run_sync(self._database.reachable) or self._variants.has_any
        return {"ready": able and not self._draining.active}

    async def server_metadata(self, _: Message) -> Fields:
        return descriptions.server(self._name)

    async def log_settings(self, request: Message) -> Fields:
        wanted = {name: _setting(value) for name, value in request.settings.items()}
        fixed_settings.check_unchanged(self._logging, wanted)
        return {"settings": {name: _as_setting(value) for name, value in self._logging.items()}}

    async def trace_setting(self, request: Message) -> Fields:
        if request.model_name:
            await to_thread.run_sync(resolve, self._database, request.model_name)
        wanted = {name: _trace_value(name, list(value.value)) for name, value in request.settings.items()}
        fixed_settings.check_unchanged(fixed_settings.TRACE, wanted)
        return {
            "settings": {
                name: {"value": value if isinstance(value, list) else [value]}
                for name, value in fixed_settings.TRACE.items()
            }
        }

    # Models

    async def model_ready(self, request: Message) -> Fields:
        """False, and no error, for what does not exist or may not serve."""
        try:
            (await self._named(request)).check_loaded()
        except (NotFound, Conflict, Unavailable):
            return {"ready": False}
        return {"ready": True}

    async def model_metadata(self, request: Message) -> Fields:
        return descriptions.metadata(await self._named(request))

    async def model_config(self, request: Message) -> Fields:
        return {"config": descriptions.config(await self._named(request))}

    async def model_statistics(self, request: Message) -> Fields:
        which = (request.name or None, request.version or None)
        counted = await to_thread.run_sync(self._variant_statistics.of, *which)
        return {"model_stats": [descriptions.statistics(each) for each in counted]}

    async def _named(self, request: Message) -> ServedVariant:
        return await to_thread.run_sync(resolve, self._database, request.name, request.version or None)

    # The repository

    async def repository_index(self, request: Message) -> Fields:
        rows = await to_thread.run_sync(self._repository.index)
        return {"models": [row for row in rows if not request.ready or row["state"] == "READY"]}

    async def repository_model_load(self, request: Message) -> Fields:
        check_loaded_as_is(_repository_parameters(request))
        await self._controlled(self._repository.load, request.model_name)
        return {}

    async def repository_model_unload(self, request: Message) -> Fields:
        # No model here depends on another, so both values mean the same.
        flag("unload_dependents", _repository_parameters(request))
        await self._controlled(self._repository.unload, request.model_name)
        return {}

    async def _controlled(self, work: Callable[..., T], *arguments: Any) -> T:
        # With its context: who asks, and the name of the request, go along.
        run = partial(copy_context().run, work, *arguments)
        return await asyncio.get_running_loop().run_in_executor(self._control, run)

    # Inference

    async def model_infer(self, raw: bytes, context: Context) -> bytes:
        """A `ModelInferResponse`; whose answer it is, and where the time went, is in the trailing metadata."""
        response = await self._answered(_INFER.parsed(raw), len(raw), context)
        timing = (("server-timing", server_timing(response.timing)),) if response.timing is not None else ()
        context.set_trailing_metadata((("x-model-variant", response.variant.label), *timing))
        serialized: bytes = (await self._rendered(response)).SerializeToString()
        return serialized

    async def model_stream_infer(self, requests: AsyncIterator[bytes], context: Context) -> None:
        """One `ModelStreamInferResponse` for each request, in their order; those that can run meanwhile do."""
        answers: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue()
        room = asyncio.Semaphore(_STREAM_AHEAD)
        async with asyncio.TaskGroup() as group:

            async def read() -> None:
                try:
                    await room.acquire()
                    async for raw in requests:
                        answers.put_nowait(group.create_task(self._streamed(raw, context)))
                        await room.acquire()
                finally:
                    answers.put_nowait(None)

            reading = group.create_task(read())
            self._reading.add(reading)
            reading.add_done_callback(self._reading.discard)
            while (answer := await answers.get()) is not None:
                await context.write(await answer)
                room.release()
        if reading.cancelled():
            raise Unavailable("the server is shutting down; all requests that it had taken are answered")

    def end_streams(self) -> None:
        """Have streams answer what they have taken, and take no more: by themselves they may last for ever."""
        for reading in list(self._reading):
            reading.cancel()

    async def _streamed(self, raw: bytes, context: Context) -> bytes:
        """The answer, or what went wrong, which ends no stream."""
        request = _INFER.request()
        try:
            request = _INFER.parsed(raw)
            if self._gate is not None:
                self._gate.count(CALLER.get())
            response = await self._answered(request, len(raw), context)
            answer = _StreamResponse(infer_response=await self._rendered(response, is_end=True))
        except Exception as error:  # noqa: BLE001 - told to who asked, and logged where it is a defect
            _, detail = status_of("ModelStreamInfer", error)
            answer = _StreamResponse(error_message=detail, infer_response={"id": request.id})
        serialized: bytes = answer.SerializeToString()
        return serialized

    async def _answered(self, message: Message, size: int, context: Context) -> InferenceResponse:
        left_s = context.time_remaining()
        deadline = None if left_s is None else time.monotonic() + left_s
        request = GrpcRequest(message, size, context)
        # Of the requests of one stream, each has its own id, and all the same headers.
        REQUEST_ID.set(request.request_id)
        response = await self._core.answer(request, CALLER.get(), deadline)
        assert response is not None  # who gives a call up cancels it
        return response

    async def _rendered(self, response: InferenceResponse, *, is_end: bool = False) -> Message:
        render = partial(messages.render, response, is_end=is_end)
        if sum(output.array.nbytes for output in response.outputs) <= _RENDERED_QUICKLY_BYTES:
            return render()
        return await to_thread.run_sync(render, limiter=self._core.limiter)


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


class GrpcRequest:
    """An inference request as gRPC brings it: a `ModelInferRequest` of `size` bytes."""

    __slots__ = ("_message", "_metadata", "_size", "model", "request_id", "version")

    def __init__(self, message: Message, size: int, context: Context) -> None:
        self._message = message
        self._size = size
        self._metadata = {str(name): value for name, value in context.invocation_metadata() or ()}
        self.model: str = message.model_name
        self.version: str | None = message.model_version or None
        self.request_id: str = message.id or self.header(b"x-request-id") or new_request_id()

    def header(self, name: bytes) -> str | None:
        """What HTTP calls a header."""
        value = self._metadata.get(name.decode())
        return value.decode("latin-1") if isinstance(value, bytes) else value

    def parses_quickly(self, inputs: Sequence[TensorSpec]) -> bool:
        """Whether `parse` takes less time than handing it to a thread."""
        return messages.parses_quickly(self._message, self._size)

    def parse(self, inputs: Sequence[TensorSpec]) -> InferenceRequest:
        """The request. Raises `Invalid` or `Unsupported`."""
        return messages.parse(self._message)

    async def wait_for(self, answer: "asyncio.Future[Answer]") -> Answer | None:
        """The answer. A call that its client gives up is cancelled."""
        return await answer


def _repository_parameters(request: Message) -> dict[str, Any]:
    return checked_parameters("the request", {"parameters": messages.plain(request.parameters)})


def _setting(value: Any) -> bool | int | str | None:
    choice = value.WhichOneof("parameter_choice")
    return None if choice is None else getattr(value, choice)


def _as_setting(value: bool | int | str) -> Fields:
    kind = "bool" if isinstance(value, bool) else "uint32" if isinstance(value, int) else "string"
    return {f"{kind}_param": value}


def _trace_value(name: str, values: list[str]) -> list[str] | str | None:
    """Every setting of traces comes as a list; of most, only one value makes sense."""
    if not values:
        return None
    if isinstance(fixed_settings.TRACE.get(name), list) or len(values) > 1:
        return values
    return values[0]
