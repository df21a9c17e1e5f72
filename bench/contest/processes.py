"""A server's processes: started on cores of their own, halted while others have their turn, ended."""

import os
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil

START_SECONDS = 120
_RESUME_SECONDS = 20
_STOP_SECONDS = 30


class Absent(Exception):
    """A server that cannot take part, and why."""


class Server:
    """`probe` is true once requests are answered; it is asked anew whenever the server was halted."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        cores: Collection[int],
        log: Path,
        probe: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._command = list(command)
        self._cores = cores
        self._log = log
        self._probe = probe
        self._environment = os.environ | {"OMP_NUM_THREADS": str(len(cores))} | dict(environment or {})
        self._folder = folder
        self._popen: subprocess.Popen[bytes] | None = None
        self._known: set[psutil.Process] = set()

    @property
    def pid(self) -> int:
        assert self._popen is not None
        return self._popen.pid

    def start(self) -> None:
        """Return when it answers; raises `Absent`."""
        with self._log.open("ab") as log:
            self._popen = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=partial(os.sched_setaffinity, 0, self._cores),
            )
        if not self._answers(START_SECONDS):
            code = self._popen.poll()
            self.stop()
            what = f"did not answer within {START_SECONDS} s" if code is None else f"ended with code {code}"
            raise Absent(f"it {what}: {self.last_words()}")

    def pause(self) -> None:
        """Halt all of them: what daemons do in idleness would be taken from whoever has the turn."""
        for process in self.family():
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def resume(self) -> None:
        """Let them go on. One that did not survive the break is started anew; raises `Absent`."""
        for process in self.family():
            with suppress(psutil.NoSuchProcess):
                process.resume()
        if self._popen is None or not self._answers(_RESUME_SECONDS):
            self.stop()
            self.start()

    def stop(self) -> None:
        """End all, politely first. Processes that their parents left behind are ended too."""
        if self._popen is None:
            return
        family = self.family()
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.resume()
        self._popen.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(_STOP_SECONDS)
        for process in family | self.family():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._popen.wait()
        self._popen, self._known = None, set()

    def family(self) -> set[psutil.Process]:
        """The process and all that it, or a process of its, started and that still run."""
        if self._popen is None:
            return set()
        with suppress(psutil.NoSuchProcess):
            self._known.add(psutil.Process(self._popen.pid))
        for process in list(self._known):
            with suppress(psutil.NoSuchProcess):
                self._known.update(process.children(recursive=True))
        self._known = {process for process in self._known if process.is_running()}
        return set(self._known)

    def last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines() if self._log.exists() else []
        return " | ".join(lines[-4:])[-600:]

    def _answers(self, seconds: float) -> bool:
        assert self._popen is not None
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._popen.poll() is None:
            self.family()
            if self._probe():
                return True
            time.sleep(0.1)
        return False
