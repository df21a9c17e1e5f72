"""Errors → HTTP: the one place. Problem details (RFC 9457) for management, `{"error": …}` for inference."""

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Mount

from app import errors
from app.access.gate import retry_after
from app.registry import IntegrityError, OperationalError, is_full

_log = logging.getLogger(__name__)

_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")

_FULL = "the disk that holds uploads and artifacts is full"

#: Error class → (status of the management API, status of the inference protocol).
_STATUS: dict[type[errors.OctetError], tuple[int, int]] = {
    errors.Invalid: (422, 400),
    errors.NotFound: (404, 404),
    errors.Unauthenticated: (401, 401),
    errors.Forbidden: (403, 403),
    errors.TooMuch: (429, 429),
    errors.LengthRequired: (411, 411),
    errors.Conflict: (409, 409),
    errors.PreconditionFailed: (412, 412),
    errors.PreconditionRequired: (428, 428),
    errors.TooLarge: (413, 413),
    errors.Unsupported: (415, 501),
    errors.Unavailable: (503, 503),
    errors.NoSpace: (507, 507),
}


def install(app: FastAPI) -> None:
    """Give every error of `app` its form."""
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)


def answer_to(request: Request, error: Exception) -> Response:
    """What an error comes to, for requests that the framework does not see."""
    return next(handler for kind in type(error).__mro__ if (handler := _HANDLERS.get(kind)))(request, error)


def answer(request: Request, status: int, detail: str, field: str | None = None, **headers: str) -> Response:
    """The error in the form that the clients of this path understand."""
    # Errors quote what the client sent, and JSON can hold halves of letters, which no answer can.
    detail = detail.encode("utf-8", "backslashreplace").decode()
    if _is_inference(request):
        return JSONResponse({"error": detail}, status, headers)
    problem: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if field is not None:
        problem["field"] = field
    return JSONResponse(problem, status, headers, media_type="application/problem+json")


def _is_inference(request: Request) -> bool:
    return request.url.path == "/v2" or request.url.path.startswith("/v2/")


def _octet_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.OctetError)
    if isinstance(error, errors.Unauthenticated) and _is_for_eyes(request):
        return RedirectResponse(f"/login?next={quote(_where(request), safe='/')}", 303)
    for kind in type(error).__mro__:
        if kind in _STATUS:
            status = _STATUS[kind][1 if _is_inference(request) else 0]
            return answer(request, status, error.detail, error.field, **_headers_of(error))
    return _defect(request, error)


def _headers_of(error: errors.OctetError) -> dict[str, str]:
    if isinstance(error, errors.Unauthenticated):
        return {"WWW-Authenticate": 'Bearer realm="octet"'}
    if isinstance(error, errors.TooMuch):
        return {"Retry-After": retry_after(error.retry_after_s)}
    return {"Retry-After": str(error.retry_after_s)} if isinstance(error, errors.Unavailable) else {}


def _is_for_eyes(request: Request) -> bool:
    """Whether a person at a browser asks, who can sign in."""
    return request.method == "GET" and not _is_inference(request) and "text/html" in request.headers.get("Accept", "")


def _where(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = [str(part) for part in first["loc"]]
    field = ".".join(where[1:]) or where[0]
    return answer(request, 422, f"'{field}': {first['msg']}", field)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    # The framework hides what went wrong while it read a form behind a 400 of its own.
    cause = error.__cause__
    if isinstance(cause, errors.OctetError):
        return _octet_error(request, cause)
    if errors.is_full(cause):
        return _octet_error(request, errors.NoSpace(_FULL))
    if isinstance(cause, UnicodeDecodeError):
        return answer(request, 422, "the body is not JSON: it is no text in UTF-8", "body")
    detail = str(error.detail)
    if error.status_code == HTTPStatus.NOT_FOUND and detail == "Not Found":
        detail = f"there is nothing at {request.url.path[:200]}; /docs lists what there is"
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"{request.method} is not offered at {request.url.path[:200]}; /docs lists what is"
        headers["Allow"] = ", ".join(_offered(request))
    return answer(request, error.status_code, detail, None, **headers)


def _offered(request: Request) -> list[str]:
    """All methods of the path: the framework names those of the first route alone."""
    # What is mounted answers for itself.
    routes = [route for route in request.app.routes if not isinstance(route, Mount)]
    return [method for method in _METHODS if any(_serves(route, request, method) for route in routes)]


def _serves(route: BaseRoute, request: Request, method: str) -> bool:
    return route.matches({**request.scope, "method": method})[0] is Match.FULL


def _system_error(request: Request, error: Exception) -> Response:
    if errors.is_full(error):
        return _octet_error(request, errors.NoSpace(_FULL))
    return _defect(request, error)


def _registry_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, OperationalError)
    if is_full(error):
        return _octet_error(request, errors.NoSpace("the disk that holds the registry is full"))
    _log.error("the registry does not answer: %s", error)
    return answer(request, 503, "the registry does not answer; try again", None, **{"Retry-After": "5"})


def _lost_race(request: Request, _: Exception) -> Response:
    # The registry's constraints had the last word between two requests that both looked first.
    return answer(request, 409, "another request changed the same thing at the same time; try again")


def _defect(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return answer(request, 500, "an internal error; the server's log has the details")


_HANDLERS: dict[type[Exception], Callable[[Request, Exception], Response]] = {
    errors.OctetError: _octet_error,
    RequestValidationError: _validation_error,
    HTTPException: _http_error,
    OperationalError: _registry_error,
    IntegrityError: _lost_race,
    OSError: _system_error,
    Exception: _defect,
}
