"""Which requests take the short way, and that they get what the long one would give."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from app.caller import Caller
from app.front import Front, InferencePath, inference_path
from app.serving.draining import Draining


def scope(path: str, method: str = "POST", **more: Any) -> Scope:
    return {"type": "http", "method": method, "path": path, "headers": [], "query_string": b"", **more}


def test_inference_names_a_model_and_perhaps_a_version() -> None:
    assert inference_path(scope("/v2/models/m@int8/infer")) == InferencePath("m@int8")
    assert inference_path(scope("/v2/models/m/versions/3/infer")) == InferencePath("m", "3")


@pytest.mark.parametrize(
    "other",
    [
        scope("/v2/models/m/infer", "GET"),
        scope("/v2/models/m/ready"),
        scope("/v2/models//infer"),
        scope("/v2/models/infer"),
        scope("/v2/models/m/versions//infer"),
        scope("/v2/models/m/n/infer"),
        scope("/v2/models/m/versions/3/x/infer"),
        scope("/v3/models/m/infer"),
        scope("/v2/models/m/infer", root_path="/octet"),
    ],
)
def test_all_else_is_passed_on(other: Scope) -> None:
    assert inference_path(other) is None


async def passed_on(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("passed on")(scope, receive, send)


async def named(
    model: str, version: str | None, headers: Mapping[bytes, bytes], receive: Receive, caller: Caller, request_id: str
) -> Response:
    return PlainTextResponse(model, headers={"X-Model-Variant": "int8"})


async def fails(*_: object) -> Response:
    raise ValueError("broken")


class Answered:
    """What came of one request."""

    def __init__(self, scope: Scope, infer: Any = named, *, draining: bool = False, **options: Any) -> None:
        def on_error(request: Request, error: Exception) -> Response:
            return PlainTextResponse(f"{request.path_params['model']}: {error}", 500)

        leaving = Draining(0)
        leaving.active = draining
        self._sent: list[Message] = []
        asyncio.run(Front(passed_on, infer, on_error, leaving, **options)(scope, self._receive, self._send))
        self.body = b"".join(message.get("body", b"") for message in self._sent)
        self.headers = dict(self._sent[0]["headers"])

    async def _send(self, message: Message) -> None:
        self._sent.append(message)

    async def _receive(self) -> Message:
        raise AssertionError


INFER = "/v2/models/m/infer"


def test_requests_are_answered_where_they_belong() -> None:
    assert Answered(scope(INFER)).body == b"m"
    assert Answered(scope("/v2/models/m/ready")).body == b"passed on"
    assert Answered(scope(INFER), fails).body == b"m: broken"


def test_what_is_no_request_is_passed_on() -> None:
    assert Answered({"type": "lifespan", "method": "POST", "path": INFER}).body == b"passed on"


@pytest.mark.parametrize("path", [INFER, "/metrics"])
def test_each_request_has_a_name_its_own_or_a_new_one(path: str) -> None:
    mine = Answered(scope(path, headers=[(b"x-request-id", b"order-7/a")]))
    assert mine.headers[b"x-request-id"] == b"order-7/a"
    new = {Answered(scope(path)).headers[b"x-request-id"] for _ in range(3)}
    assert len(new) == 3
    assert all(len(name) == 16 for name in new)


@pytest.mark.parametrize("name", [b"", b"a" * 129, b"two words", b'"', b"line\nbreak", "ä".encode()])
def test_a_name_that_does_not_belong_into_logs_is_replaced(name: bytes) -> None:
    assert len(Answered(scope(INFER, headers=[(b"x-request-id", name)])).headers[b"x-request-id"]) == 16


@pytest.mark.parametrize("path", [INFER, "/metrics"])
def test_clients_are_asked_to_leave_a_process_that_ends(path: str) -> None:
    assert Answered(scope(path), draining=True).headers[b"connection"] == b"close"
    assert b"connection" not in Answered(scope(path)).headers


def test_a_line_is_logged_for_each_request_where_that_is_wished(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "octet.access")
    Answered(scope(INFER))
    assert not caplog.records
    for path in (INFER, "/metrics"):
        Answered(scope(path, headers=[(b"x-request-id", b"r1")]), log_requests=True)
    infer, other = caplog.records
    assert (infer.path, infer.status, infer.model, infer.variant) == (INFER, 200, "m", "int8")  # type: ignore[attr-defined]
    assert other.getMessage().startswith("POST /metrics 200 ")
    assert not hasattr(other, "model")
