"""What every request meets first: it gets a name, it is let in or not, inference is answered here, and all else is
passed on.

A web framework spends as long on a request as a small model does. Requests for inference take a way of their own, past
it; their routes exist all the same, for the documentation, for other methods, and for whoever mounts the application.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.access.gate import Admission, Gate
from app.caller import CALLER, Caller
from app.logs import REQUEST_ID, new_request_id, request_id_in
from app.serving.draining import Draining

#: Model, version, headers, body, caller and request id.
Infer = Callable[[str, str | None, Mapping[bytes, bytes], Receive, Caller, str], Awaitable[Response]]
ErrorAnswer = Callable[[Request, Exception], Response]

_PREFIX = "/v2/models/"
_SUFFIX = "/infer"
#: Paths that were parsed lately are kept, unless they are long.
_MOST_PATHS, _LONGEST_PATH = 1024, 512
#: What nginx logs where a client left before its answer.
_LEFT = 499

_access = logging.getLogger("octet.access")


class InferencePath(NamedTuple):
    """What the path of an inference request names. `version`: None where it names none."""

    model: str
    version: str | None = None

    def parameters(self) -> dict[str, str]:
        """As the framework would have found them."""
        return {"model": self.model} if self.version is None else {"model": self.model, "version": self.version}


class Front:
    """An ASGI application before `app`. `on_error` gives errors of `infer` the form that clients understand.

    `gate`: says who may come in; None for everybody. `log_requests`: write a line for each.
    """

    def __init__(
        self,
        app: ASGIApp,
        infer: Infer,
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
        begun = time.perf_counter()
        path = inference_path(scope)
        if path is not None:
            status, variant = await self._inference(path, scope, receive, send)
        else:
            status, variant = await self._passed_on(scope, receive, send), None
        if self._log_requests:
            _log(scope, status, path, variant, time.perf_counter() - begun)

    async def _inference(
        self, path: InferencePath, scope: Scope, receive: Receive, send: Send
    ) -> tuple[int, bytes | None]:
        """Answer an inference request; its status, and the variant that answered."""
        headers = dict(scope["headers"])
        request_id = request_id_in(scope["headers"]) if b"x-request-id" in headers else new_request_id()
        REQUEST_ID.set(request_id)
        try:
            caller = CALLER.get() if self._gate is None else await self._gate.admit_inference(headers, path.model)
            CALLER.set(caller)
            response = await self._infer(path.model, path.version, headers, receive, caller, request_id)
        except Exception as error:  # noqa: BLE001 - answered, and logged where it is a defect
            scope["path_params"] = path.parameters()
            response = self._on_error(Request(scope, receive), error)
        own = response.raw_headers
        variant = own[0][1] if own and own[0][0] == _VARIANT else dict(own).get(_VARIANT)
        if variant is None:
            own += _safe_to_show(own)
        own.append((b"x-request-id", request_id.encode()))
        if self._draining.active:
            own.append((b"connection", b"close"))
        await response(scope, receive, send)
        return response.status_code, variant

    async def _passed_on(self, scope: Scope, receive: Receive, send: Send) -> int:
        """Have the framework answer; the status."""
        request_id = request_id_in(scope["headers"])
        REQUEST_ID.set(request_id)
        answer = _Answer(send, request_id, leaving=self._draining.active)
        admission: Admission | None = None
        if self._gate is not None:
            try:
                admission = await self._gate.admit(scope["method"], scope["path"], scope["headers"])
            except Exception as error:  # noqa: BLE001 - answered, and logged where it is a defect
                await self._on_error(Request(scope, receive), error)(scope, receive, answer)
                return answer.status
            CALLER.set(admission.caller)
        if self._gate is None or admission is None or admission.upload is None:
            await self._app(scope, receive, answer)
            return answer.status
        try:
            await self._app(scope, receive, answer)
        finally:
            # Who left before the answer has uploaded nothing.
            await self._gate.answered(admission, answer.status or _LEFT)
        return answer.status


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

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = message["headers"]
            message = {**message, "headers": [*headers, *_safe_to_show(headers), *self._headers]}
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


def _log(scope: Scope, status: int, path: InferencePath | None, variant: bytes | None, seconds: float) -> None:
    took_ms = round(seconds * 1000, 3)
    fields = {"method": scope["method"], "path": scope["path"], "status": status, "ms": took_ms}
    if path is not None and variant is not None:
        fields |= {"model": path.model.partition("@")[0], "variant": variant.decode()}
    _access.info("%s %s %s %s ms", scope["method"], scope["path"], status, took_ms, extra=fields)


def inference_path(scope: Scope) -> InferencePath | None:
    """The model, and the version if one is named, that `scope` asks an inference of; None for all other requests."""
    if scope["method"] != "POST" or scope.get("root_path"):
        return None
    path: str = scope["path"]
    if not path.endswith(_SUFFIX):
        return None
    return _parsed_path(path) if len(path) <= _LONGEST_PATH else _parsed_path.__wrapped__(path)


@lru_cache(_MOST_PATHS)
def _parsed_path(path: str) -> InferencePath | None:
    if not path.startswith(_PREFIX):
        return None
    match path[len(_PREFIX) : -len(_SUFFIX)].split("/"):
        case [model] if model:
            return InferencePath(model)
        case [model, "versions", version] if model and version:
            return InferencePath(model, version)
    return None
