"""The very commands, environment and health checks of docker-compose.yml, on servers of the test's own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.e2e.service import Process, eventually
from tests.servers import free_port

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((Path(__file__).parents[2] / "docker-compose.yml").read_text())[
    "services"
]


class Composed:
    """Runs a service's command or health check; hosts, the port and the home are the test's, all else the file's."""

    def __init__(self, folder: Path, postgresql_url: str, redis_url: str) -> None:
        self.port, self.grpc_port = free_port(), free_port()
        self._folder = folder
        self._replace = {
            "postgresql://octet:octet@postgres:5432/octet": postgresql_url,
            "redis://redis:6379/0": redis_url,
            "/var/lib/octet": str(folder / "home"),
            "0.0.0.0": "127.0.0.1",
            "8000": str(self.port),
            "8001": str(self.grpc_port),
        }
        self.running: list[Process] = []

    def _process(self, name: str, command: list[str]) -> Process:
        assert command[0] == "octet"
        environment = {key: self._replace.get(value, value) for key, value in SERVICES[name]["environment"].items()}
        arguments = [self._replace.get(word, word) for word in command[1:]]
        process = Process(arguments, environment, self._folder / f"{name}.log")
        self.running.append(process)
        return process

    def start(self, name: str) -> Process:
        return self._process(name, SERVICES[name]["command"])

    def health(self, name: str) -> int:
        kind, *command = SERVICES[name]["healthcheck"]["test"]
        assert kind == "CMD"
        return self._process(name, command).popen.wait(timeout=30)


@pytest.fixture
def composed(tmp_path: Path, postgresql_url: str, redis_url: str) -> Iterator[Composed]:
    composed = Composed(tmp_path, postgresql_url, redis_url)
    yield composed
    for process in composed.running:
        process.kill_all()


def test_what_the_compose_file_says_works(composed: Composed, model_bytes: bytes) -> None:
    assert composed.health("worker") != 0
    assert composed.start("migrate").popen.wait(timeout=60) == 0
    gateway, worker = composed.start("gateway"), composed.start("worker")
    eventually(lambda: composed.health("gateway") == 0, what="a healthy gateway")
    eventually(lambda: composed.health("worker") == 0, what="a healthy worker")

    with httpx.Client(base_url=f"http://127.0.0.1:{composed.port}", timeout=30) as http:
        files = {"file": ("model.onnx", model_bytes)}
        made = http.post("/api/v1/models", files=files, data={"name": "model", "quantize": "fp16"}).json()
        path = f"/api/v1/jobs/{made['jobs'][0]['id']}"
        eventually(lambda: http.get(path).json()["state"] == "succeeded", what="the job's success")

    assert worker.end() == 0
    assert composed.health("worker") != 0
    gateway.end()
    assert composed.health("gateway") != 0


def test_a_gateway_or_worker_before_the_migration_says_what_to_run(composed: Composed) -> None:
    for name in ("gateway", "worker"):
        process = composed.start(name)
        assert process.popen.wait(timeout=30) != 0
        assert "octet migrate" in process.log.read_text()
