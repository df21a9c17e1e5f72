"""The process that does a job's heavy work, apart from the worker so that what breaks it does not break the worker."""

import json
import os
import resource
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.errors import JobFailed

_STDERR = "stderr.log"


class Child:
    """`python -m worker.pipeline FOLDER`: it knows its folder and nothing else, and ends when this process does."""

    def __init__(self, folder: Path, *, memory_bytes: int) -> None:
        self._folder = folder
        self._stderr = (folder / _STDERR).open("wb")
        self._process = subprocess.Popen(
            # -P: the folder holds files that strangers named, and must not be where modules are looked for.
            [sys.executable, "-P", "-m", "worker.pipeline", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            cwd=folder,
            # No secret of the service is inherited: the child runs what strangers uploaded.
            env={
                "PATH": os.defpath,
                "HOME": str(folder),
                "TMPDIR": str(folder),
                "PYTHONNOUSERSITE": "1",
                # Threads of training that spin while they wait take the cores from those that serve.
                "OMP_WAIT_POLICY": "PASSIVE",
            },
        )
        self._prefer_as_victim(memory_bytes)

    def _prefer_as_victim(self, memory_bytes: int) -> None:
        """When memory runs out it is the child that goes: by its own limit, else as the kernel's first choice."""
        if not hasattr(resource, "prlimit"):
            return
        try:
            resource.prlimit(self._process.pid, resource.RLIMIT_AS, (memory_bytes, memory_bytes))
            Path(f"/proc/{self._process.pid}/oom_score_adj").write_text("1000")
        except (ProcessLookupError, PermissionError, FileNotFoundError):
            # It has ended already, or the system does not let us: the job itself will tell.
            return

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
