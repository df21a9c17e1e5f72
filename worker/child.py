"""The process that does a job's heavy work, apart from the worker so that what breaks it does not break the worker."""

import json
import math
import os
import selectors
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.confinement import Grant, start
from app.engines.cpu import usable_cores
from app.errors import JobFailed

_STDERR = "stderr.log"
_GRACE_SECONDS = 60


class Child:
    """`python -m worker.job_process FOLDER`, confined to its folder; it ends when this process does."""

    def __init__(self, folder: Path, *, memory_bytes: int, seconds: float, file_bytes: int) -> None:
        """`seconds`: the longest run, which this process sees to; of CPU it gets what all cores have in that time."""
        self._folder = folder
        self._stderr = (folder / _STDERR).open("wb")
        self._process = start(
            "worker.job_process",
            [str(folder)],
            Grant(
                folder,
                memory_bytes=memory_bytes,
                cpu_seconds=math.ceil(seconds * usable_cores()) + _GRACE_SECONDS,
                file_bytes=file_bytes,
            ),
            stdin=subprocess.PIPE,
            stderr=self._stderr,
            # Threads of training that spin while they wait take the cores from those that serve.
            environment={"OMP_WAIT_POLICY": "PASSIVE"},
        )

    def messages(self, *, every_seconds: float) -> Iterator[dict[str, Any] | None]:
        """What the child says, as it says it; None at least once each `every_seconds`. Ends with the child."""
        assert self._process.stdout is not None
        stream = self._process.stdout.fileno()
        os.set_blocking(stream, False)
        pending = b""
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while True:
                if not selector.select(every_seconds):
                    yield None
                    continue
                chunk = os.read(stream, 1 << 16)
                if not chunk:
                    return
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line)

    def end(self) -> None:
        """Kill it if it lives, and let go of what it held."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            if stream is not None:
                stream.close()

    def crash(self, stage: str) -> JobFailed:
        """The error of a child that ended without saying why."""
        code = self._process.wait()
        if code == -signal.SIGKILL:
            return JobFailed(f"the job's process was killed at stage '{stage}', most likely for want of memory")
        if code < 0:
            name = signal.Signals(-code).name
            return JobFailed(f"the job's process crashed with {name} at stage '{stage}': the model breaks the runtime")
        tail = (self._folder / _STDERR).read_text(errors="replace").strip().splitlines()[-1:] or ["no message"]
        return JobFailed(f"the job's process ended with code {code} at stage '{stage}': {tail[0][:300]}")
