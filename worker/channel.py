"""The lines by which a job's child process tells its parent how it goes; and its end when the parent is gone."""

import json
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, Protocol

# Progress is for people: more often is only work for the registry.
_EVERY_SECONDS = 0.1

#: Characters of a traceback, or of one record of the log.
LONGEST_TRACEBACK = 1 << 16


class Sink(Protocol):
    def write(self, line: str, /) -> object: ...


class Channel:
    """Messages as JSON, one a line. Progress never goes back, and comes at most ten times a second.

    Any thread may send.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._lock = threading.Lock()
        self._stage = ""
        self._progress = 0.0
        self._detail: Mapping[str, Any] | None = None
        self._sent_at = 0.0

    def progress(self, stage: str, progress: float, detail: Mapping[str, Any] | None = None) -> None:
        """`progress` 0..1 of the whole job; a new stage is told at once. A `detail`, JSON, holds until the next one,
        or the next stage."""
        self._progress = max(self._progress, min(1.0, progress))
        is_new = stage != self._stage
        if detail is not None or is_new:
            self._detail = _finite(detail)
        now = time.monotonic()
        self._stage = stage
        if is_new or now - self._sent_at >= _EVERY_SECONDS:
            self._sent_at = now
            told = {} if self._detail is None else {"detail": self._detail}
            self.send({"stage": stage, "progress": round(self._progress, 4), **told})

    def checkpoint(self, name: str) -> None:
        """The file `name` of the job's folder, whole and never changed again, is what a next attempt can go on from."""
        self.send({"checkpoint": name})

    def error(self, error: str, traceback: str) -> None:
        """The job cannot be done: `error` is for the client, the end of `traceback` for an administrator."""
        self.send({"error": error, "traceback": traceback[-LONGEST_TRACEBACK:]})

    def send(self, message: dict[str, Any]) -> None:
        line = json.dumps(message, allow_nan=False) + "\n"
        with self._lock:
            self._sink.write(line)


class ChannelHandler(logging.Handler):
    """Sends what this process logs to the parent, which logs it in its own form."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)[:LONGEST_TRACEBACK]
            self._channel.send({"log": {"logger": record.name, "level": record.levelname, "text": text}})
        except Exception:  # noqa: BLE001 - as all handlers of `logging`: a line that cannot be logged ends no job
            self.handleError(record)


def _finite(value: Any) -> Any:
    """`value` as JSON can hold it: a loss that is not a number is null, and no reason for the job to fail."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def claim_stdout() -> Channel:
    """Take standard output for messages; what libraries print goes to standard error from here on."""
    messages = os.fdopen(os.dup(1), "w", buffering=1)
    sys.stdout.flush()
    os.dup2(2, 1)
    return Channel(messages)


def end_with_parent() -> None:
    """End this process at once when its standard input does: the parent holds the other end, and writes nothing."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
