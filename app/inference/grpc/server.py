"""The port of the gRPC face: opened and closed with the gateway, in its event loop."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import grpc
from google.protobuf import json_format

from app.errors import Conflict, Unsupported
from app.inference.grpc.schema import METHODS, SERVICE, Method
from app.inference.grpc.service import Context, Fields, Message, Service
from app.inference.grpc.statuses import status_of

#: How long running calls may take to end when the server does.
_GRACE_SECONDS = 28

#: The calls that `open_inference.proto` leaves out.
_SHARED_MEMORY = [
    f"{kind}SharedMemory{verb}" for kind in ("System", "Cuda") for verb in ("Status", "Register", "Unregister")
]

Call = Callable[[Any, Context], Awaitable[Any]]


@asynccontextmanager
async def listening(
    service: Service,
    *,
    host: str,
    port: int,
    max_bytes: int,
    shares_port: bool = False,
    over: asyncio.Event | None = None,
) -> AsyncIterator[None]:
    """Serves until `over`, at the longest as long as the block lasts; then takes no more, and waits for what runs.

    `max_bytes`: of a message. `shares_port`: other processes may listen on it too. Raises `Conflict` when it is taken.
    """
    options = [
        ("grpc.max_receive_message_length", max_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", int(shares_port)),
    ]
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers([handlers(service)])
    try:
        server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except RuntimeError as error:
        raise Conflict(
            f"cannot listen on {host}:{port} for gRPC; choose another with --grpc-port or OCTET_GRPC_PORT, 0 for none"
        ) from error
    await server.start()
    over = over or asyncio.Event()
    stopping = asyncio.create_task(_stop_when(over, server, service))
    try:
        yield
    finally:
        over.set()
        await stopping


async def _stop_when(over: asyncio.Event, server: grpc.aio.Server, service: Service) -> None:
    await over.wait()
    service.end_streams()
    await server.stop(_GRACE_SECONDS)


def handlers(service: Service) -> grpc.GenericRpcHandler:
    """The calls by their names. Messages are read and made here and not by grpc, for errors to have one form."""
    calls = {name: _handler(method, service) for name, method in METHODS.items()}
    for name in _SHARED_MEMORY:
        calls[name] = grpc.unary_unary_rpc_method_handler(_told(name, _refuse_shared_memory, service))
    return grpc.method_handlers_generic_handler(SERVICE, calls)


def _handler(method: Method, service: Service) -> "grpc.RpcMethodHandler[bytes, bytes]":
    call = getattr(service, re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower())
    if method.streams:
        return grpc.stream_stream_rpc_method_handler(_told(method.name, call, service))
    if method.name != "ModelInfer":
        call = _with_fields(method, call)
    return grpc.unary_unary_rpc_method_handler(_told(method.name, call, service))


def _told(name: str, call: Call, service: Service) -> Call:
    """`call` for those who may make it, whose errors become statuses."""

    async def answer(request: Any, context: Context) -> Any:
        try:
            await service.admit(name, context)
            return await call(request, context)
        except Exception as error:  # noqa: BLE001 - told to who asked, and logged where it is a defect
            return await context.abort(*status_of(name, error))

    return answer


def _with_fields(method: Method, call: Callable[[Message], Awaitable[Fields]]) -> Call:
    async def answer(raw: bytes, _: Context) -> bytes:
        fields = await call(method.parsed(raw))
        made: bytes = json_format.ParseDict(fields, method.response()).SerializeToString()
        return made

    return answer


async def _refuse_shared_memory(_: bytes, __: Context) -> NoReturn:
    raise Unsupported("shared memory is not offered; send tensors in the request")
