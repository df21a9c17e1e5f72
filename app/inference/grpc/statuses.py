"""Errors → gRPC: the one place."""

import logging

from grpc import StatusCode

from app import errors
from app.registry import IntegrityError, OperationalError, is_full

_log = logging.getLogger(__name__)

_STATUS: dict[type[errors.OctetError], StatusCode] = {
    errors.Invalid: StatusCode.INVALID_ARGUMENT,
    errors.NotFound: StatusCode.NOT_FOUND,
    errors.Unauthenticated: StatusCode.UNAUTHENTICATED,
    errors.Forbidden: StatusCode.PERMISSION_DENIED,
    errors.TooMuch: StatusCode.RESOURCE_EXHAUSTED,
    errors.Conflict: StatusCode.FAILED_PRECONDITION,
    errors.TooLarge: StatusCode.RESOURCE_EXHAUSTED,
    errors.Unsupported: StatusCode.UNIMPLEMENTED,
    errors.Unavailable: StatusCode.UNAVAILABLE,
    errors.CallTooShort: StatusCode.DEADLINE_EXCEEDED,
    errors.NoSpace: StatusCode.RESOURCE_EXHAUSTED,
}

#: A status travels in a header, of which clients take 8 KiB, and what is not ASCII takes more room there.
_LONGEST_DETAIL = 1000


def status_of(method: str, error: Exception) -> tuple[StatusCode, str]:
    """What the client of `method` is told of `error`; what is not for clients is logged."""
    if isinstance(error, OperationalError) and is_full(error):
        return StatusCode.RESOURCE_EXHAUSTED, "the disk that holds the registry is full"
    if isinstance(error, OperationalError):
        _log.error("the registry does not answer: %s", error)
        return StatusCode.UNAVAILABLE, "the registry does not answer; try again"
    if isinstance(error, IntegrityError):
        return StatusCode.ABORTED, "another request changed the same thing at the same time; try again"
    for kind in type(error).__mro__:
        if kind in _STATUS:
            assert isinstance(error, errors.OctetError)
            return _STATUS[kind], error.detail[:_LONGEST_DETAIL]
    _log.error("%s failed", method, exc_info=error)
    return StatusCode.INTERNAL, "an internal error; the server's log has the details"
