"""Octet by its real command, with models uploaded and quantized over its real API."""

import io
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from app.registry import migrations
from app.settings import Settings
from contest.cases import ROOT, Source
from contest.processes import Absent, Server

_JOB_SECONDS = 600


class Octet:
    """`octet serve`, or for `worker=False` `octet gateway` alone, on these cores; everything lies under `home`."""

    def __init__(
        self,
        home: Path,
        port: int,
        cores: Collection[int],
        *,
        worker: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120)
        home.mkdir(parents=True, exist_ok=True)
        if not worker:
            settings = Settings(home=home)
            settings.make_folders()
            migrations.upgrade(settings.registry_url)
        command = [sys.executable, "-m", "app.cli", "serve" if worker else "gateway"]
        self.server = Server(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cores=cores,
            log=home / f"octet-{port}.log",
            probe=self._ready,
            environment={"OCTET_HOME": str(home), "OCTET_GRPC_PORT": "0", **(environment or {})},
            folder=ROOT,
        )

    def upload(self, source: Source) -> None:
        """Have the variant of `source` there, whatever its accuracy: that is not the question here."""
        with source.model.open("rb") as file:
            self._done("/api/v1/models", files={"file": (source.model.name, file)}, data={"name": source.name})
        if source.variant == "original":
            return
        content = io.BytesIO()
        np.savez(content, **source.rows())
        dataset = f"{source.name}-samples"
        self._done("/api/v1/datasets", files={"file": ("samples.npz", content.getvalue())}, data={"name": dataset})
        wanted = {"model": source.name, "dataset": dataset, "method": source.variant}
        options = {"max_accuracy_drop": 1.0, "calibration_samples": 128, "evaluation_samples": 256}
        self._wait(self._done("/api/v1/jobs", json=wanted | {"options": options})["id"])

    def download(self, source: Source, folder: Path) -> Path:
        """The file that answers the requests."""
        answer = self.http.get(f"/api/v1/models/{source.name}/variants/{source.variant}/artifact").raise_for_status()
        path = folder / f"{source.name}.onnx"
        path.write_bytes(answer.content)
        return path

    def _wait(self, job: str) -> None:
        deadline = time.monotonic() + _JOB_SECONDS
        while time.monotonic() < deadline:
            state = self.http.get(f"/api/v1/jobs/{job}").raise_for_status().json()
            if state["state"] == "succeeded":
                return
            if state["state"] in {"failed", "cancelled"}:
                raise Absent(f"job {job} {state['state']}: {state['error']}")
            time.sleep(0.5)
        raise Absent(f"job {job} did not end within {_JOB_SECONDS} s")

    def _done(self, path: str, **content: Any) -> Any:
        answer = self.http.post(path, **content)
        if answer.is_error:
            raise Absent(f"POST {path}: {answer.text}")
        return answer.json()

    def _ready(self) -> bool:
        try:
            return self.http.get("/v2/health/ready").status_code == 200
        except httpx.TransportError:
            return False
