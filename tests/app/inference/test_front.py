"""Which requests take the short way, and that they get what the long one would give."""

import asyncio
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from app.inference.front import Front, inferred


def scope(path: str, method: str = "POST", **more: Any) -> Scope:
    return {"type": "http", "method": method, "path": path, "headers": [], "query_string": b"", **more}


def test_inference_names_a_model_and_perhaps_a_version() -> None:
    assert inferred(scope("/v2/models/m@int8/infer")) == {"model": "m@int8"}
    assert inferred(scope("/v2/models/m/versions/3/infer")) == {"model": "m", "version": "3"}


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
        {"type": "lifespan"},
    ],
)
def test_all_else_is_passed_on(other: Scope) -> None:
    assert inferred(other) is None


def answer(path: str, infer: Any) -> bytes:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("passed on")(scope, receive, send)

    def on_error(request: Request, error: Exception) -> Response:
        return PlainTextResponse(f"{request.path_params['model']}: {error}")

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError

    asyncio.run(Front(app, infer, on_error)(scope(path), receive, send))
    return b"".join(message.get("body", b"") for message in sent)


async def named(request: Request) -> Response:
    return PlainTextResponse(request.path_params["model"])


async def fails(_: Request) -> Response:
    raise ValueError("broken")


def test_requests_are_answered_where_they_belong() -> None:
    assert answer("/v2/models/m/infer", named) == b"m"
    assert answer("/v2/models/m/ready", named) == b"passed on"
    assert answer("/v2/models/m/infer", fails) == b"m: broken"
