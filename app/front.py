"""What every request meets first: it gets a name, inference is answered here, and all else is passed on.

A web framework spends as long on a request as a small model does. Requests for inference take a way of their own, past
it; their routes exist all the same, for the documentation, for other methods, and for whoever mounts the application.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.logs import REQUEST_ID, request_id_in
from app.serving.draining import Draining

Endpoint = Callable[[Request], Awaitable[Response]]
ErrorAnswer = Callable[[Request, Exception], Response]

_PREFIX = "/v2/models/"
_SUFFIX = "/infer"

_access = logging.getLogger("octet.access")


class Front:
    """An ASGI application before `app`. `on_error` gives errors of `infer` the form that clients understand.

    `log_requests`: write a line for each.
    """

    def __init__(
        self,
        app: ASGIApp,
        infer: Endpoint,
        on_error: ErrorAnswer,
        draining: Draining,
        *,
        log_requests: bool = False,
    ) -> None:
        self._app = app
        self._infer = infer
        self._on_error = on_error
        self._draining = draining
        self._log_requests = log_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_id_in(scope["headers"])
        REQUEST_ID.set(request_id)
        answer = _Answer(send, request_id, leaving=self._draining.active)
        begun = time.perf_counter()
        named = inferred(scope)
        if named is None:
            await self._app(scope, receive, answer)
        else:
            scope["path_params"] = named
            response = await self._inferred(Request(scope, receive))
            await response(scope, receive, answer)
        if self._log_requests:
            _log(scope, answer, time.perf_counter() - begun)

    async def _inferred(self, request: Request) -> Response:
        try:
            return await self._infer(request)
        except Exception as error:  # noqa: BLE001 - answered, and logged where it is a defect
            return self._on_error(request, error)


class _Answer:
    """Passes an answer on, with the request's name among its headers.

    `leaving`: have the client close the connection, as this process will soon.
    """

    def __init__(self, send: Send, request_id: str, *, leaving: bool) -> None:
        self._send = send
        self._headers = [(b"x-request-id", request_id.encode())]
        if leaving:
            self._headers.append((b"connection", b"close"))
        self.status = 0
        self.variant: str | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message["headers"], *self._headers]}
            self.variant = next((value.decode() for name, value in message["headers"] if name == _VARIANT), None)
        await self._send(message)


_VARIANT = b"x-model-variant"


def _log(scope: Scope, answer: _Answer, seconds: float) -> None:
    took_ms = round(seconds * 1000, 3)
    fields = {"method": scope["method"], "path": scope["path"], "status": answer.status, "ms": took_ms}
    if answer.variant is not None:
        fields |= {"model": scope["path_params"]["model"].partition("@")[0], "variant": answer.variant}
    _access.info("%s %s %s %s ms", scope["method"], scope["path"], answer.status, took_ms, extra=fields)


def inferred(scope: Scope) -> Mapping[str, str] | None:
    """The model, and the version if one is named, that `scope` asks an inference of; None for all other requests."""
    if scope["method"] != "POST" or scope.get("root_path"):
        return None
    path: str = scope["path"]
    if not (path.startswith(_PREFIX) and path.endswith(_SUFFIX)):
        return None
    match path[len(_PREFIX) : -len(_SUFFIX)].split("/"):
        case [model] if model:
            return {"model": model}
        case [model, "versions", version] if model and version:
            return {"model": model, "version": version}
    return None
