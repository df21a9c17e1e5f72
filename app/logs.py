"""What is logged, and in which form: lines for people, or JSON for machines. Each names the request it belongs to."""

import logging
import logging.config
import random
import re
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any, Literal

from app.masking import masked

#: The request that is being answered; empty outside of one.
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")

_HEADER = b"x-request-id"
# What clients call their requests is written to logs and headers: no line breaks, no quotes, and an end.
_NAME = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")


def request_id_in(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """What the client calls its request (`X-Request-Id`), where that is a plain word of at most 128 characters.

    Else a new name.
    """
    for name, value in headers:
        if name == _HEADER and _NAME.fullmatch(value):
            return value.decode()
    return new_request_id()


def new_request_id() -> str:
    return f"{random.getrandbits(64):016x}"


class _WithRequest(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = REQUEST_ID.get() or "-"
        return True


class _Masking(logging.StreamHandler):  # type: ignore[type-arg]
    """Whatever an error or a library puts into a line, no password and no key leaves in it."""

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


def configure(level: str, form: Literal["text", "json"]) -> None:
    """Have all of this process's loggers write to standard error."""
    logging.config.dictConfig(_configuration(level.upper(), form))


def _configuration(level: str, form: str) -> dict[str, Any]:
    forms = {
        "text": {"format": "%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s"},
        "json": {
            "()": "pythonjsonlogger.orjson.OrjsonFormatter",
            "fmt": "%(asctime)s %(levelname)s %(name)s %(request_id)s %(message)s",
            "rename_fields": {"asctime": "time", "levelname": "level", "name": "logger"},
        },
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"request": {"()": _WithRequest}},
        "formatters": {"form": forms[form]},
        "handlers": {"stderr": {"()": _Masking, "formatter": "form", "filters": ["request"]}},
        "root": {"level": level, "handlers": ["stderr"]},
        # The server's own line for each request knows neither its name nor its variant: ours is in `app.front`.
        "loggers": {"uvicorn.access": {"level": "WARNING"}, "httpx": {"level": "WARNING"}},
    }
