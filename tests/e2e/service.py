"""Octet as its users run it: real processes, started by the real commands."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

from tests.servers import free_port

T = TypeVar("T")

#: Leases and sweeps short enough for a test to wait for; longer than a busy machine holds up a heartbeat.
QUICK = {"OCTET_JOB_LEASE_SECONDS": "4", "OCTET_SWEEP_SECONDS": "0.3", "OCTET_LOG_LEVEL": "info"}
#: Several services run at once, so only those whose test names a port serve gRPC.
WITHOUT_GRPC = {"OCTET_GRPC_PORT": "0"}


def eventually(check: Callable[[], T | None], *, seconds: float = 60, what: str = "it") -> T:
    """The first true answer of `check`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = check()
        if answer:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {seconds:g} s")


class Process:
    """One `octet` command, its output in a file."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str], log: Path) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("OCTET_")}
        self.log = log
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "app.cli", *arguments],
            env=inherited | dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=log.open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def family(self) -> list[psutil.Process]:
        """The process and all that it started."""
        try:
            parent = psutil.Process(self.popen.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def find(self, words: str) -> psutil.Process | None:
        """The youngest process of the family whose command line holds `words`."""
        for process in reversed(self.family()):
            try:
                if words in " ".join(process.cmdline()):
                    return process
            except psutil.NoSuchProcess:
                continue
        return None

    def end(self, *, seconds: float = 40) -> int:
        """SIGTERM, and the exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(timeout=seconds)

    def kill_all(self) -> None:
        for process in self.family():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.popen.wait(timeout=10)


class Service:
    """A gateway and a worker that keep everything under `home`, in one command or in two."""

    def __init__(self, home: Path, environment: Mapping[str, str] | None = None, *, apart: bool = False) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.Client(base_url=self.url, timeout=60)
        self.environment = QUICK | WITHOUT_GRPC | {"OCTET_HOME": str(home)} | dict(environment or {})
        self.grpc_port = int(self.environment["OCTET_GRPC_PORT"])
        self.processes: dict[str, Process] = {}
        self._apart = apart

    def start(self, *names: str) -> None:
        """Start the named commands, or all."""
        for name in names or (("gateway", "worker") if self._apart else ("serve",)):
            port = [] if name == "worker" else ["--host", "127.0.0.1", "--port", str(self.port)]
            self.processes[name] = Process([name, *port], self.environment, self.home.parent / f"{name}.log")
        eventually(self.is_ready, seconds=120, what="readiness")

    def migrate(self) -> None:
        assert Process(["migrate"], self.environment, self.home.parent / "migrate.log").popen.wait(60) == 0

    def is_ready(self) -> bool:
        for name, process in self.processes.items():
            assert process.popen.poll() is None, f"{name} ended:\n{process.log.read_text()[-2000:]}"
        try:
            return self.http.get("/v2/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill_all()
        self.http.close()

    def clear(self) -> None:
        """Cancel, stop and delete all that tests made; nothing of it stays on the disk."""
        jobs = "/api/v1/jobs"
        for state in ("queued", "running"):
            for job in self.http.get(jobs, params={"state": state, "limit": 1000}).json():
                self.http.delete(f"{jobs}/{job['id']}")
                self.finished(job["id"])
        for model in self.http.get("/api/v1/models").json():
            experiments = f"/api/v1/models/{model['name']}/experiments"
            for experiment in self.http.get(experiments).json():
                if experiment["state"] in {"running", "paused"}:
                    self.http.post(f"{experiments}/{experiment['id']}/stop").raise_for_status()
            self.http.delete(f"/api/v1/models/{model['name']}").raise_for_status()
        for dataset in self.http.get("/api/v1/datasets").json():
            self.http.delete(f"/api/v1/datasets/{dataset['name']}").raise_for_status()
        eventually(lambda: self.leftovers() + self.blobs() == [], what="an empty home")

    # What a client does.

    def upload_dataset(self, content: bytes, *, name: str = "samples", filename: str = "samples.npz") -> dict[str, Any]:
        answer = self.http.post("/api/v1/datasets", files={"file": (filename, content)}, data={"name": name})
        assert answer.status_code == 201, answer.text
        return answer.json()  # type: ignore[no-any-return]

    def upload_model(self, content: bytes, *, name: str = "model", **fields: str) -> dict[str, Any]:
        answer = self.http.post(
            "/api/v1/models", files={"file": ("model.onnx", content)}, data={"name": name, **fields}
        )
        assert answer.status_code == 201, answer.text
        return answer.json()  # type: ignore[no-any-return]

    def submit(self, **wanted: Any) -> str:
        answer = self.http.post("/api/v1/jobs", json={"model": "model"} | wanted)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        return self.http.get(f"/api/v1/jobs/{job_id}").json()  # type: ignore[no-any-return]

    def when(self, job_id: str, *states: str, seconds: float = 60) -> dict[str, Any]:
        """The job once it is in one of `states`."""

        def check() -> dict[str, Any] | None:
            job = self.job(job_id)
            return job if job["state"] in states else None

        return eventually(check, seconds=seconds, what=f"job {'/'.join(states)}")

    def finished(self, job_id: str, *, seconds: float = 90) -> dict[str, Any]:
        return self.when(job_id, "succeeded", "failed", "cancelled", seconds=seconds)

    def variants(self, model: str = "model") -> dict[str, dict[str, Any]]:
        return {row["variant"]: row for row in self.http.get(f"/api/v1/models/{model}/variants").json()}

    def blobs(self) -> list[Path]:
        return [path for path in (self.home / "blobs").rglob("*") if path.is_file()]

    def leftovers(self) -> list[Path]:
        """What lies in the scratch folder: nothing, when nothing is running."""
        return list((self.home / "scratch").iterdir())
