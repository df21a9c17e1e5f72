"""What every request meets first: it gets a name, it is let in or not, inference is answered here, and all else is
passed on.

A web framework spends as long on a request as a small model does. Requests for inference take a way of their own, past
it; their routes exist all the same, for the documentation, for other methods, and for whoever mounts the application.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.access.gate import Admission, Gate
from app.caller import CALLER
from app.logs import REQUEST_ID, request_id_in
from app.serving.draining import Draining

Endpoint = Callable[[Request], Awaitable[Response]]
ErrorAnswer = Callable[[Request, Exception], Response]

_PREFIX = "/v2/models/"
_SUFFIX = "/infer"
#: What nginx logs where a client left before its answer.
_LEFT = 499

_access = logging.getLogger("octet.access")


class Front:
    """An ASGI application before `app`. `on_error` gives errors of `infer` the form that clients understand.

    `gate`: says who may come in; None for everybody. `log_requests`: write a line for each.
    """

    def __init__(
        self,
        app: ASGIApp,
        infer: Endpoint,
        on_error: ErrorAnswer,
        draining: Draining,
        *,
        gate: Gate | None = None,
        log_requests: bool = False,
    ) -> None:
        self._app = app
        self._infer = infer
        self._on_error = on_error
        self._draining = draining
        self._gate = gate
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
        try:
            admission = await self._let_in(scope, named)
        except Exception as error:  # noqa: BLE001 - answered, and logged where it is a defect
            await self._on_error(Request(scope, receive), error)(scope, receive, answer)
        else:
            if named is None:
                await self._passed_on(admission, scope, receive, answer)
            else:
                scope["path_params"] = named
                response = await self._inferred(Request(scope, receive))
                await response(scope, receive, answer)
        if self._log_requests:
            _log(scope, answer, time.perf_counter() - begun)

    async def _let_in(self, scope: Scope, named: Mapping[str, str] | None) -> Admission | None:
        if self._gate is None:
            return None
        admission = await self._gate.admit(scope["method"], scope["path"], scope["headers"], named)
        CALLER.set(admission.caller)
        return admission

    async def _passed_on(self, admission: Admission | None, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        if self._gate is None or admission is None or admission.upload is None:
            await self._app(scope, receive, answer)
            return
        try:
            await self._app(scope, receive, answer)
        finally:
            # Who left before the answer has uploaded nothing.
            await self._gate.answered(admission, answer.status or _LEFT)

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
            headers = message["headers"]
            self.variant = next((value.decode() for name, value in headers if name == _VARIANT), None)
            shown = () if self.variant is not None else _safe_to_show(headers)
            message = {**message, "headers": [*headers, *shown, *self._headers]}
        await self._send(message)


_VARIANT = b"x-model-variant"
_CSP = b"content-security-policy"


def _safe_to_show(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """What browsers are told about an answer, beside what a page says of itself."""
    given = {name.lower(): value for name, value in headers}
    told = [(b"x-content-type-options", b"nosniff")]
    if given.get(b"content-type", b"").startswith(b"text/html"):
        told += [(b"x-frame-options", b"DENY"), (b"referrer-policy", b"same-origin")]
        told += [(b"cross-origin-opener-policy", b"same-origin"), (b"cross-origin-resource-policy", b"same-origin")]
        if _CSP not in given:
            told.append((_CSP, b"frame-ancestors 'none'; base-uri 'none'; form-action 'self'"))
    return [(name, value) for name, value in told if name not in given]


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
