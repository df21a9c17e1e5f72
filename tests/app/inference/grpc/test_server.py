"""Calls and the port itself, over a core that answers when the test says so."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import grpc
import numpy as np
import pytest
from grpc import StatusCode
from psycopg.errors import DiskFull

from app.engines import TensorSpec
from app.errors import Conflict, DeadlineUnmet
from app.inference.backend import Backend
from app.inference.core import InferenceCore
from app.inference.grpc.schema import METHODS, SERVICE
from app.inference.grpc.server import listening
from app.inference.grpc.service import Service
from app.inference.served_variant import ServedVariant
from app.inference.variant_cache import VariantCache
from app.registry import OperationalError
from app.serving.batch_queue import Answer, Target, Timing
from app.serving.batcher import Batcher
from app.serving.batches import Work
from app.serving.draining import Draining
from app.serving.pool import Artifact
from app.serving.statistics import ComputeTime
from tests.servers import free_port

SPECS = tuple((TensorSpec(name, "FP32", (-1,)),) for name in ("x", "y"))
SERVED = ServedVariant("m", "original", 1, (1,), Artifact("fake", "digest"), *SPECS, None, True)


@dataclass
class Held:
    """Takes requests, and answers each with its own input once `go` is set; `error` is raised instead."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    taken: list[Work] = field(default_factory=list)
    dropped: int = 0
    error: Exception | None = None

    def run_inline(self, target: Target, work: Work) -> None:
        return None

    def submit(self, target: Target, work: Work) -> "Future[Answer]":
        self.taken.append(work)
        answer: Future[Answer] = Future()
        answer.add_done_callback(self._note_dropped)
        self._tasks.append(asyncio.create_task(self._complete(answer, work)))
        return answer

    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def _note_dropped(self, answer: "Future[Answer]") -> None:
        self.dropped += answer.cancelled()

    async def _complete(self, answer: "Future[Answer]", work: Work) -> None:
        await self.go.wait()
        if not answer.set_running_or_notify_cancel():
            return
        if self.error is not None:
            answer.set_exception(self.error)
        else:
            answer.set_result(Answer([work.feeds["x"]], Timing(0, 1, ComputeTime(0, 0, 0))))

    def backend(self) -> Backend:
        cache = SimpleNamespace(get=lambda name, version: SERVED)
        none: Any = None
        core = InferenceCore(cast(VariantCache, cache), cast(Batcher, self), none, none, threads=1)
        return Backend(
            core=core,
            variants=cast(VariantCache, cache),
            statistics=none,
            repository=none,
            database=none,
            draining=Draining(0),
            control=none,
            server_name="octet",
            log_level="info",
        )


def message(number: int = 0, **parameters: dict[str, Any]) -> bytes:
    made: bytes = (
        METHODS["ModelInfer"]
        .request(
            model_name="m",
            id=str(number),
            parameters=parameters,
            inputs=[{"name": "x", "datatype": "FP32", "shape": [1]}],
            raw_input_contents=[np.float32(number).tobytes()],
        )
        .SerializeToString()
    )
    return made


@asynccontextmanager
async def calling(held: Held) -> AsyncIterator[grpc.aio.Channel]:
    port = free_port()
    async with (
        listening(Service(held.backend()), host="127.0.0.1", port=port, max_bytes=1024**2),
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        yield channel


def infer(channel: grpc.aio.Channel, raw: bytes, **options: Any) -> Any:
    return channel.unary_unary(f"/{SERVICE}/ModelInfer")(raw, **options)


def stream(channel: grpc.aio.Channel, **options: Any) -> Any:
    return channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")(**options)


async def until(check: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not check():
            await asyncio.sleep(0.01)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def code_of(call: Awaitable[object]) -> StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    status: StatusCode = caught.value.code()
    return status


def test_a_call_that_is_given_up_drops_its_work() -> None:
    async def scenario() -> None:
        held = Held()
        async with calling(held) as channel:
            call = infer(channel, message())
            await until(lambda: held.taken)
            call.cancel()
            await until(lambda: held.dropped == 1)

    asyncio.run(scenario())


def test_a_call_whose_deadline_passes_drops_its_work() -> None:
    async def scenario() -> None:
        held = Held()
        async with calling(held) as channel:
            assert await code_of(infer(channel, message(), timeout=0.3)) == StatusCode.DEADLINE_EXCEEDED
            await until(lambda: held.dropped == 1)

    asyncio.run(scenario())


@pytest.mark.parametrize("count", [5, 200])
def test_a_stream_that_is_given_up_drops_all_of_its_work(count: int) -> None:
    async def scenario() -> None:
        held = Held()
        async with calling(held) as channel:
            call = stream(channel)
            for number in range(count):
                await call.write(message(number))
            await until(lambda: len(held.taken) == min(count, 64))
            call.cancel()
            await until(lambda: held.dropped == len(held.taken))
        assert len(held.taken) == min(count, 64)

    asyncio.run(scenario())


def test_the_sooner_of_deadline_and_timeout_is_what_the_request_has() -> None:
    async def scenario() -> None:
        held = Held()
        held.go.set()
        async with calling(held) as channel:
            for timeout_us, seconds in ((None, None), (7, None), (7, 30), (60_000_000, 30), (0, 30), (None, 30)):
                parameters = {} if timeout_us is None else {"timeout": {"int64_param": timeout_us}}
                await infer(channel, message(**parameters), timeout=seconds)
        none, own, own_sooner, *calls = (work.timeout_us for work in held.taken)
        assert (none, own, own_sooner) == (None, 7, 7)
        assert len(calls) == 3
        # The wire rounds a deadline up.
        assert [call for call in calls if not (call and 0 < call < 31_000_000)] == []

    asyncio.run(scenario())


def test_whose_time_was_too_short_is_told_by_the_status() -> None:
    async def scenario() -> None:
        held = Held(error=DeadlineUnmet("m"))
        held.go.set()
        async with calling(held) as channel:
            own = message(timeout={"int64_param": 7})
            assert await code_of(infer(channel, own, timeout=30)) == StatusCode.UNAVAILABLE
            assert await code_of(infer(channel, message(), timeout=30)) == StatusCode.DEADLINE_EXCEEDED

    asyncio.run(scenario())


def test_what_is_not_for_clients_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        held = Held(error=RuntimeError("password"))
        held.go.set()
        async with calling(held) as channel:
            for raised, status in (
                (RuntimeError("password"), StatusCode.INTERNAL),
                (OperationalError("password", None, Exception()), StatusCode.UNAVAILABLE),
                (OperationalError("password", None, DiskFull()), StatusCode.RESOURCE_EXHAUSTED),
            ):
                held.error = raised
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await infer(channel, message())
                assert caught.value.code() == status
                assert "password" not in str(caught.value.details())
                call = stream(channel)
                await call.write(message())
                answer = METHODS["ModelStreamInfer"].response.FromString(await call.read())
                assert answer.error_message == caught.value.details()

    asyncio.run(scenario())
    assert caplog.text.count("password") >= 4


def test_a_stream_is_answered_in_order_whatever_ends_first() -> None:
    async def scenario() -> None:
        held = Held()
        held.go.set()
        async with calling(held) as channel:
            call = stream(channel)
            for number in range(300):
                await call.write(message(number))
            await call.done_writing()
            response = METHODS["ModelStreamInfer"].response
            ids = [response.FromString(raw).infer_response.id async for raw in call]
        assert ids == [str(number) for number in range(300)]

    asyncio.run(scenario())


def test_only_so_much_of_a_stream_is_taken_before_it_is_answered() -> None:
    async def scenario() -> None:
        held = Held()
        async with calling(held) as channel:
            call = stream(channel)
            for number in range(200):
                await call.write(message(number))
            await until(lambda: len(held.taken) == 64)
            await another_call(channel, held)
            assert len(held.taken) == 65
            held.go.set()
            await call.done_writing()
            assert len([raw async for raw in call]) == 200

    async def another_call(channel: grpc.aio.Channel, held: Held) -> None:
        call = infer(channel, message(999))
        await until(lambda: any(work.feeds["x"][0] == 999 for work in held.taken))
        call.cancel()

    asyncio.run(scenario())


def test_an_answer_says_whose_it_is_in_its_trailing_metadata() -> None:
    async def scenario() -> None:
        held = Held()
        held.go.set()
        async with calling(held) as channel:
            call = infer(channel, message(3))
            answer = METHODS["ModelInfer"].response.FromString(await call)
            assert answer.raw_output_contents[0] == np.float32(3).tobytes()
            assert dict(await call.trailing_metadata())["x-model-variant"] == "original"

    asyncio.run(scenario())


def test_the_end_waits_for_what_runs_and_takes_no_more() -> None:
    async def scenario() -> None:
        held, port = Held(), free_port()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:

            async def serve(stop: asyncio.Event) -> None:
                async with listening(Service(held.backend()), host="127.0.0.1", port=port, max_bytes=1024**2):
                    await stop.wait()

            stop = asyncio.Event()
            serving = asyncio.create_task(serve(stop))
            unary, streamed = infer(channel, message(1), wait_for_ready=True), stream(channel, wait_for_ready=True)
            await streamed.write(message(2))
            await until(lambda: len(held.taken) == 2)
            stop.set()
            await until(lambda: not listens(port))
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as late:
                # The port is closed, or grpc drops a connection that it took in that moment.
                assert await code_of(infer(late, message(3))) in {StatusCode.UNAVAILABLE, StatusCode.CANCELLED}
            assert not serving.done()
            held.go.set()
            assert METHODS["ModelInfer"].response.FromString(await unary).id == "1"
            assert METHODS["ModelStreamInfer"].response.FromString(await streamed.read()).infer_response.id == "2"
            with pytest.raises(grpc.aio.AioRpcError, match="the server is shutting down"):
                await streamed.read()
            await serving
        assert len(held.taken) == 2

    asyncio.run(scenario())


@pytest.mark.parametrize("shares", [False, True])
def test_a_port_is_shared_only_where_that_is_asked_for(shares: bool) -> None:
    async def scenario() -> None:
        port = free_port()

        def listen() -> Any:
            return listening(
                Service(Held().backend()), host="127.0.0.1", port=port, max_bytes=1024**2, shares_port=shares
            )

        async with listen():
            if shares:
                async with listen():
                    return
            with pytest.raises(Conflict, match=f"cannot listen on 127.0.0.1:{port} for gRPC.*OCTET_GRPC_PORT"):
                async with listen():
                    pass

    asyncio.run(scenario())
