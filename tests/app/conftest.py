"""A gateway without a worker: what it answers, and what it keeps."""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from fastapi.testclient import TestClient

from app.blobs import open_store
from app.intake import sandbox
from app.main import create_app
from app.registry import Database
from app.settings import Settings
from tests import graphs, registries
from tests.app import known_uploads
from tests.app.live_experiment import add_variants


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", max_upload_bytes=4 * 1024**2, max_inference_bytes=1024**2, grpc_port=0)


@pytest.fixture
def uploads_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check an upload in a child process only where no test of this process uploaded the same before."""
    monkeypatch.setattr(sandbox._Child, "ask", known_uploads.ask)


@pytest.fixture
def client(settings: Settings, uploads_checked_once: None) -> Iterator[TestClient]:
    settings.make_folders()
    registries.migrate(settings.registry_url)
    with TestClient(create_app(settings), base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


def onnx_bytes(model: onnx.ModelProto | None = None) -> bytes:
    return (model or graphs.linear_classifier()).SerializeToString()


def npz_bytes(**arrays: object) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **(arrays or graphs.labelled_samples()))  # type: ignore[arg-type]
    return buffer.getvalue()


def upload_model(client: TestClient, content: bytes | None = None, *, name: str = "linear", **fields: str):  # type: ignore[no-untyped-def]
    files = {"file": ("model.onnx", content or onnx_bytes())}
    return client.post("/api/v1/models", files=files, data={"name": name, **fields})


def upload_dataset(client: TestClient, content: bytes | None = None, *, name: str = "samples", **fields: str):  # type: ignore[no-untyped-def]
    files = {"file": ("samples.npz", content or npz_bytes())}
    return client.post("/api/v1/datasets", files=files, data={"name": name, **fields})


class Kept:
    """Everything that a gateway keeps: rows, blobs, temporary files; but for the audit log, which outlives them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def now(self) -> tuple[dict[str, int], list[str], list[str]]:
        database = Database(self._settings.registry_url)
        with database.engine.connect() as connection:
            names = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars().all()
            rows = {
                name: connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one()
                for name in sorted(set(names) - {"audit_entries"})
            }
        database.close()
        blobs = sorted(open_store(self._settings).digests())
        # Unlike `rglob`, `walk` passes over a folder that is removed meanwhile.
        scratch = [
            os.path.join(parent, name)
            for parent, folders, files in os.walk(self._settings.scratch_folder)
            for name in (*folders, *files)
        ]
        return rows, blobs, sorted(scratch)


@pytest.fixture
def registry(settings: Settings, client: TestClient) -> Iterator[Database]:
    """The registry of the gateway, where model `linear` has `int8`, and `bad`, which was rejected."""
    upload_model(client)
    database = Database(settings.registry_url)
    add_variants(database)
    yield database
    database.close()


@pytest.fixture
def kept(settings: Settings) -> Kept:
    return Kept(settings)
