"""The process that runners are forked from: they find the engine imported, so that they start quickly and share it.

`Nursery` is the gateway's side. The other is `python -m app.isolation.nursery DESCRIPTOR ENGINE`: it has one thread,
never sees a stranger's byte, and ends when the gateway does; with it, its children.
"""

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from app.confinement.start import clean_environment
from app.errors import UnknownEngine

_MAX_REQUEST_BYTES = 65536


class Nursery:
    """Starts runners, and ends them. Its methods may be called from several threads."""

    def __init__(self, engine: str) -> None:
        """`engine`: the name of the engine of all runners."""
        self._engine = engine
        self._lock = threading.Lock()
        self._process, self._control = _started(engine)

    def spawn(self, request: dict[str, Any], control: socket.socket) -> int:
        """Fork a runner that has `control`, and does as `request` says; its process number."""
        with self._lock:
            try:
                return int(self._asked({"spawn": request}, control.fileno())["process"])
            except OSError:
                # It ended, and all runners with it: the kernel was short of memory, or somebody meant it.
                self._forget()
                self._process, self._control = _started(self._engine)
                return int(self._asked({"spawn": request}, control.fileno())["process"])

    def bury(self, process: int) -> int | None:
        """End the runner, unless it has ended; its exit code, as of `subprocess`, or None where nobody knows it."""
        with self._lock, suppress(OSError):
            status = self._asked({"bury": process})["status"]
            return None if status is None else int(status)
        return None

    def processes(self) -> list[int]:
        """Its own, while it lives."""
        return [self._process.pid] if self._process.poll() is None else []

    def close(self) -> None:
        """End it, and with it all runners."""
        with self._lock:
            self._forget()

    def _asked(self, question: dict[str, Any], *descriptors: int) -> Any:
        socket.send_fds(self._control, [orjson.dumps(question)], descriptors)
        answer = self._control.recv(_MAX_REQUEST_BYTES)
        if not answer:
            raise ConnectionResetError
        return orjson.loads(answer)

    def _forget(self) -> None:
        self._control.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def _started(engine: str) -> "tuple[subprocess.Popen[bytes], socket.socket]":
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "app.isolation.nursery", str(its.fileno()), engine],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=clean_environment(Path("/nonexistent"))
            # Threads of libraries do not survive a fork.
            | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            pass_fds=[its.fileno()],
            start_new_session=True,
        )
    return process, ours


def main() -> None:
    from app import engines
    from app.isolation import runner

    # Without the engine, each runner answers its request with the reason.
    with suppress(UnknownEngine):
        engines.get(sys.argv[2])
    control = socket.socket(fileno=int(sys.argv[1]))
    parent = os.getpid()
    # What is there now stays in pages that all runners share.
    gc.collect()
    gc.freeze()
    while True:
        content, descriptors, _, _ = socket.recv_fds(control, _MAX_REQUEST_BYTES, 1)
        if not content:
            return
        question = orjson.loads(content)
        if "bury" in question:
            control.send(orjson.dumps({"status": _buried(question["bury"])}))
            continue
        process = os.fork()
        if not process:
            control.close()
            runner.main(question["spawn"], descriptors[0], parent)
        os.close(descriptors[0])
        control.send(orjson.dumps({"process": process}))


def _buried(process: int) -> int | None:
    try:
        os.kill(process, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    except (ProcessLookupError, ChildProcessError):
        return None


if __name__ == "__main__":
    main()
