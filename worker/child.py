"""The process that does a job's heavy work, apart from the worker so that what breaks it does not break the worker."""

import json
import logging
import math
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat

from app.confinement import Grant, start
from app.contracts.outcome import Outcome
from app.engines.cpu import usable_cores
from app.errors import JobFailed
from worker.job_log import JobLog

_GRACE_SECONDS = 60
#: How long the last lines of a process that has ended, or its stack, may take to come.
_DRAIN_SECONDS = 2.0
_CHUNK_BYTES = 1 << 16
#: An outcome holds the whole report, with thumbnails of the samples that changed.
_LONGEST_MESSAGE_BYTES = 1 << 28


class Child:
    """`python -m worker.job_process FOLDER`, confined to its folder; it ends when this process does."""

    def __init__(self, folder: Path, log: JobLog, *, memory_bytes: int, seconds: float, file_bytes: int) -> None:
        """`seconds`: the longest run, which this process sees to; of CPU it gets what all cores have in that time."""
        self._log = log
        self._process = start(
            "worker.job_process",
            # What is kept for a job that fails has more than a terse log of the worker.
            [str(folder), "DEBUG" if logging.getLogger().isEnabledFor(logging.DEBUG) else "INFO"],
            Grant(
                folder,
                memory_bytes=memory_bytes,
                cpu_seconds=math.ceil(seconds * usable_cores()) + _GRACE_SECONDS,
                file_bytes=file_bytes,
            ),
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Threads of training that spin while they wait take the cores from those that serve.
            environment={"OMP_WAIT_POLICY": "PASSIVE"},
        )

    def messages(self, *, every_seconds: float) -> Iterator[dict[str, Any] | None]:
        """What the child says, as it says it; None at least once each `every_seconds`. Ends with the child.

        What it logs and prints goes to the job's log.

        Raises:
            JobFailed: The child sent something else than the messages of `worker.channel`.
        """
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        messages, output = self._process.stdout.fileno(), self._process.stderr.fileno()
        os.set_blocking(messages, False)
        os.set_blocking(output, False)
        pending = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(messages, selectors.EVENT_READ)
            selector.register(output, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select(every_seconds)}
                if output in ready and not self._read_output():
                    selector.unregister(output)
                if messages not in ready:
                    yield None
                    continue
                chunk = os.read(messages, _CHUNK_BYTES)
                if not chunk:
                    return
                *lines, rest = chunk.split(b"\n")
                for line in lines:
                    message = _parsed(bytes(pending + line))
                    pending.clear()
                    if "log" in message:
                        self._log.add_record(message["log"])
                        yield None
                    else:
                        yield message
                pending += rest
                if len(pending) > _LONGEST_MESSAGE_BYTES:
                    raise JobFailed(f"the job's process sent a message of more than {_LONGEST_MESSAGE_BYTES} bytes")
                if not lines:
                    yield None

    def dump_stack(self) -> None:
        """Have the child print where each of its threads is, for the job's log."""
        self._process.send_signal(signal.SIGUSR1)
        self._drain()

    def end(self) -> None:
        """Kill it if it lives, and let go of what it held."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def crash(self, stage: str) -> str:
        """The error of a child that ended without saying why."""
        self._drain()
        code = self._process.wait()
        if code == -signal.SIGKILL:
            return f"the job's process was killed at stage '{stage}', most likely for want of memory"
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            return f"the job's process crashed with {name} at stage '{stage}': the model breaks the runtime"
        last = self._log.text.strip().rpartition("\n")[2] or "no message"
        return f"the job's process ended with code {code} at stage '{stage}': {last[:300]}"

    def _drain(self) -> None:
        """Read what the child has printed, and may print within a moment."""
        assert self._process.stderr is not None
        deadline = time.monotonic() + _DRAIN_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stderr, selectors.EVENT_READ)
            while (seconds := deadline - time.monotonic()) > 0 and selector.select(min(seconds, _DRAIN_SECONDS / 4)):
                if not self._read_output():
                    return

    def _read_output(self) -> bool:
        """Take in what lies in standard error; return False at its end."""
        assert self._process.stderr is not None
        chunk = os.read(self._process.stderr.fileno(), _CHUNK_BYTES)
        if chunk:
            self._log.add_output(chunk)
        else:
            self._log.end_output()
        return bool(chunk)


class _Record(BaseModel):
    model_config = ConfigDict(strict=True)

    logger: str
    level: str
    text: str


class _Message(BaseModel):
    """What `worker.channel` sends: one of progress, checkpoint, log record, error and outcome."""

    model_config = ConfigDict(strict=True)

    stage: str = ""
    progress: FiniteFloat = 0.0
    detail: dict[str, Any] | None = None
    checkpoint: str = ""
    log: _Record = _Record(logger="", level="", text="")
    error: str = ""
    traceback: str | None = None
    outcome: dict[str, Any] = {}


def _parsed(line: bytes) -> dict[str, Any]:
    """The message in `line`. The process may run code of a hostile model, so nothing about it is taken for granted."""
    try:
        message: dict[str, Any] = json.loads(line)
        if not {"stage", "checkpoint", "log", "error", "outcome"} & _Message.model_validate(message).model_fields_set:
            raise ValueError("none of the messages that there are")
        if "outcome" in message:
            Outcome.model_validate(message["outcome"])
    except (ValueError, RecursionError):
        raise JobFailed("the job's process sent a malformed message") from None
    return message
