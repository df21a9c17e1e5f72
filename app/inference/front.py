"""What every request meets first: inference is answered here, and all else is passed on.

A web framework spends as long on a request as a small model does. Requests for inference take a way of their own, past
it; their routes exist all the same, for the documentation, for other methods, and for whoever mounts the application.
"""

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

Endpoint = Callable[[Request], Awaitable[Response]]
ErrorAnswer = Callable[[Request, Exception], Response]

_PREFIX = "/v2/models/"
_SUFFIX = "/infer"


class Front:
    """An ASGI application before `app`. `on_error` gives errors of `infer` the form that clients understand."""

    def __init__(self, app: ASGIApp, infer: Endpoint, on_error: ErrorAnswer) -> None:
        self._app = app
        self._infer = infer
        self._on_error = on_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        named = inferred(scope)
        if named is None:
            await self._app(scope, receive, send)
            return
        scope["path_params"] = named
        request = Request(scope, receive)
        try:
            response = await self._infer(request)
        except Exception as error:  # noqa: BLE001 - answered, and logged where it is a defect
            response = self._on_error(request, error)
        await response(scope, receive, send)


def inferred(scope: Scope) -> Mapping[str, str] | None:
    """The model, and the version if one is named, that `scope` asks an inference of; None for all other requests."""
    if scope["type"] != "http" or scope["method"] != "POST" or scope.get("root_path"):
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
