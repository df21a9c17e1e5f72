"""The log of one attempt at a job: what its process logs, what it prints to standard error, and the job's stages."""

import logging
import re
from collections import deque
from datetime import UTC, datetime
from typing import Any

from app.masking import masked

#: What is kept of the log: its last lines.
_MOST_CHARACTERS = 1 << 16
_MOST_LINES = 500
_LONGEST_LINE = 4096
#: A library may print without end; a log that people read takes so many lines of one attempt.
_MOST_PRINTED_LINES = 1000
_LONGEST_PENDING_BYTES = 1 << 16
#: Colours, and what else would control a terminal; PostgreSQL stores no NUL.
_CONTROL = re.compile(r"\x1b\[[0-9;]*m|[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_log = logging.getLogger(__name__)


class JobLog:
    """Passes the lines of a job's process on to this process's log, and keeps the last ones for when the job fails."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque()
        self._characters = 0
        self._printed_lines = 0
        self._pending = b""

    @property
    def text(self) -> str:
        """The last lines, oldest first, without secrets."""
        return "\n".join(self._lines)

    def add_record(self, record: dict[str, Any]) -> None:
        """Take in a record that the process has logged: `logger`, `level` and `text`, which may have several lines."""
        level = logging.getLevelNamesMapping().get(str(record["level"]), logging.INFO)
        name, text = str(record["logger"])[:_LONGEST_LINE], _CONTROL.sub("", str(record["text"]))
        # A logger of that name would stay for ever, and the process may be at the mercy of a hostile model.
        root = logging.getLogger()
        if root.isEnabledFor(level):
            root.handle(logging.LogRecord(name, level, "", 0, "%s", (text,), None))
        self._keep(f"{_time()} {logging.getLevelName(level)} {name}: {text}")

    def add(self, text: str) -> None:
        """Add a line of this process, which is not logged."""
        self._keep(f"{_time()} {text}")

    def add_output(self, chunk: bytes) -> None:
        """Take in what the process has printed to standard error."""
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        if len(self._pending) > _LONGEST_PENDING_BYTES:
            lines, self._pending = [*lines, self._pending], b""
        for line in lines:
            self._add_printed(_CONTROL.sub("", line.decode(errors="replace")))

    def end_output(self) -> None:
        """Take in a last line that does not end."""
        if self._pending:
            self.add_output(b"\n")

    def _add_printed(self, line: str) -> None:
        self._printed_lines += 1
        if self._printed_lines <= _MOST_PRINTED_LINES:
            # Masked as a whole, as below.
            _log.info("%s", masked(line)[:_LONGEST_LINE])
        elif self._printed_lines == _MOST_PRINTED_LINES + 1:
            _log.warning("the job's process has printed %d lines: no more are logged", _MOST_PRINTED_LINES)
        self._keep(line)

    def _keep(self, text: str) -> None:
        # Masked as a whole: a secret must not be cut in two first.
        for line in masked(text).split("\n"):
            kept = line[:_LONGEST_LINE]
            self._lines.append(kept)
            self._characters += len(kept) + 1
        while len(self._lines) > _MOST_LINES or self._characters > _MOST_CHARACTERS:
            self._characters -= len(self._lines.popleft()) + 1


def _time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
