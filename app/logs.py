"""What is logged, and in which form: lines for people, or JSON for machines.

Each line names the request (of a gateway) or the job (of a worker) that it belongs to.
"""

import logging
import logging.config
import random
import re
import sys
import threading
from collections.abc import Iterable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Literal

from app.masking import masked

#: The request that is being answered; empty outside of one.
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
#: The job that is being done; empty outside of one.
JOB_ID: ContextVar[str] = ContextVar("job_id", default="")

Subject = Literal["request_id", "job_id"]
Form = Literal["text", "json"]

_SUBJECTS: dict[str, ContextVar[str]] = {"request_id": REQUEST_ID, "job_id": JOB_ID}

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


class _WithSubject(logging.Filter):
    """Gives each record the id of its request or job, as an attribute of that name."""

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self._subject = subject

    def filter(self, record: logging.LogRecord) -> bool:
        setattr(record, self._subject, _SUBJECTS[self._subject].get() or "-")
        return True


class _Masking(logging.StreamHandler):  # type: ignore[type-arg]
    """Whatever an error or a library puts into a line, no password and no key leaves in it."""

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


def configure(level: str, form: Form, subject: Subject = "request_id") -> None:
    """Have all of this process's loggers write to standard error.

    Warnings of Python and exceptions that nothing catches are logged too: their text may hold a secret.
    """
    logging.config.dictConfig(_configuration(level.upper(), form, subject))
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    logging.getLogger(__name__).critical("uncaught exception", exc_info=(kind, error, traceback))


def _log_uncaught_in_thread(uncaught: threading.ExceptHookArgs) -> None:
    if uncaught.exc_value is not None:
        _log_uncaught(uncaught.exc_type, uncaught.exc_value, uncaught.exc_traceback)


def _configuration(level: str, form: Form, subject: Subject) -> dict[str, Any]:
    forms = {
        "text": {"format": f"%(asctime)s %(levelname)s %(name)s [%({subject})s] %(message)s"},
        "json": {
            "()": "app.json_logs.MaskedJsonFormatter",
            "fmt": f"%(asctime)s %(levelname)s %(name)s %({subject})s %(message)s",
            "rename_fields": {"asctime": "time", "levelname": "level", "name": "logger"},
        },
    }
    # The server's own line for each request knows neither its name nor its variant: ours is in `app.front`.
    noisy = ("uvicorn.access", "httpx", "celery", "kombu", "amqp", "alembic")
    # A password masked in a line of JSON may end with the quote that ends its text: that form masks each text.
    handler = "logging.StreamHandler" if form == "json" else _Masking
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"subject": {"()": _WithSubject, "subject": subject}},
        "formatters": {"form": forms[form]},
        "handlers": {"stderr": {"()": handler, "formatter": "form", "filters": ["subject"]}},
        "root": {"level": level, "handlers": ["stderr"]},
        "loggers": {name: {"level": "WARNING"} for name in noisy},
    }
