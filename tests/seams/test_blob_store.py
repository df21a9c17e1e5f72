"""A blob store is one file and one row: a service runs on one whose bytes are not files of this machine."""

import hashlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest
from fastapi.testclient import TestClient
from onnx.reference import ReferenceEvaluator
from typer.testing import CliRunner

from app import cli
from app.blobs import open_store
from app.blobs.stores import STORES
from app.contracts.job_spec import JobSpec
from app.digest import sha256_of
from app.errors import InvalidModel
from app.main import create_app
from app.registry import Database, jobs
from app.serving.loading import Artifact
from app.serving.pool import Pool
from app.settings import Settings
from tests import graphs, registries
from tests.app.conftest import onnx_bytes, upload_dataset, upload_model
from tests.blob_stores import ROW, SqliteBlobStore
from tests.e2e.service import eventually
from tests.worker.runs import submitted
from worker.checkpoints import Checkpoints
from worker.job_layout import laid_out
from worker.runner import Runner

pytestmark = pytest.mark.e2e

INPUT = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16], "data": [1.0] * 16}]}


@pytest.fixture(autouse=True)
def row(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The scheme `sqlite` names a store; every lease is given back in the end."""
    monkeypatch.setitem(STORES, "sqlite", ROW)
    monkeypatch.setattr(SqliteBlobStore, "leased", [])
    yield
    assert SqliteBlobStore.leased == []


def _settings(folder: Path) -> Settings:
    settings = Settings(home=folder / "home", blobs=f"sqlite://{folder}/blobs.sqlite3", grpc_port=0)
    settings.make_folders()
    return settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = _settings(tmp_path)
    registries.migrate(settings.registry_url)
    return settings


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings), base_url="http://localhost") as client:
        yield client
        for model in client.get("/api/v1/models").json():
            client.post(f"/v2/repository/models/{model['name']}/unload")


def _work(settings: Settings, job_id: str) -> str:
    """Do the job as a worker does, in a process of its own; returns its state."""
    with closing(Database(settings.registry_url)) as database:
        Runner(settings, database, open_store(settings)).run(job_id)
        with database.reading() as session:
            job = jobs.find(session, job_id)
            assert job.error is None
            return job.state


def _infer(client: TestClient, name: str) -> list[float]:
    answer = client.post(f"/v2/models/{name}/infer", json=INPUT)
    assert answer.status_code == 200, answer.text
    logits: list[float] = answer.json()["outputs"][0]["data"]
    return logits


def _command(settings: Settings, *arguments: str) -> str:
    environment = {"OCTET_HOME": str(settings.home), "OCTET_BLOBS": settings.blob_url, "COLUMNS": "300"}
    ended = CliRunner().invoke(cli.app, list(arguments), env=environment)
    assert ended.exception is None or isinstance(ended.exception, SystemExit), f"{ended.output}{ended.exception!r}"
    return ended.output


def _quantize(client: TestClient, settings: Settings) -> None:
    assert upload_model(client).status_code == 201
    assert upload_dataset(client).status_code == 201
    job = {"model": "linear", "method": "dynamic", "dataset": "samples"}
    job_id = client.post("/api/v1/jobs", json=job).json()["id"]
    assert _work(settings, job_id) == "succeeded"


def test_upload_job_serving_and_download(client: TestClient, settings: Settings) -> None:
    _quantize(client, settings)
    assert SqliteBlobStore.leased == []
    assert not (settings.home / "blobs").exists()

    session = ReferenceEvaluator(graphs.linear_classifier())
    expected = session.run(None, {"x": np.ones((1, 16), np.float32)})[0]
    np.testing.assert_allclose(_infer(client, "linear@original"), expected.ravel(), rtol=1e-5)
    np.testing.assert_allclose(_infer(client, "linear@dynamic"), expected.ravel(), atol=0.1)
    files = [row["files"][0] for row in client.get("/api/v1/models/linear/variants").json()]
    assert sorted(SqliteBlobStore.leased) == sorted(file["digest"] for file in files)

    for file in files:
        whole = client.get(file["url"])
        assert hashlib.sha256(whole.content).hexdigest() == file["digest"] == whole.headers["ETag"].strip('"')
        part = client.get(file["url"], headers={"Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, whole.content[10:20])
    sample = client.get("/models/linear/try/sample", params={"dataset": "samples", "index": 1})
    assert sample.json()["arrays"]["x"]["shape"] == [1, 16]

    assert client.delete("/api/v1/models/linear/variants/dynamic").status_code == 204
    assert SqliteBlobStore.leased == [files[0]["digest"]]
    assert not open_store(settings).exists(files[1]["digest"])
    assert client.get(files[1]["url"]).status_code == 404


def test_backup_restore_garbage_and_doctor(client: TestClient, settings: Settings, tmp_path: Path) -> None:
    _quantize(client, settings)
    blobs = open_store(settings)
    named = set(blobs.digests())
    assert len(named) == 3
    _command(settings, "backup", str(tmp_path / "saved.tar"))
    other = _settings(tmp_path / "other")
    assert "3 blobs" in _command(other, "restore", str(tmp_path / "saved.tar"))
    restored = open_store(other)
    assert {digest: restored.open(digest).read() for digest in restored.digests()} == {
        digest: blobs.open(digest).read() for digest in named
    }

    stray = tmp_path / "stray"
    stray.write_bytes(b"nobody's")
    blobs.put(stray, "0" * 64)
    assert "1 that nothing names" in _command(settings, "doctor")
    assert "Removed 1 blobs (0.00 MB) that nothing names" in _command(settings, "gc")
    assert set(blobs.digests()) == named
    blobs.delete(min(named))
    assert "1 of 3 that the registry names are missing" in _command(settings, "doctor")


def test_a_checkpoint_is_kept_and_laid_before_the_next_attempt(settings: Settings, tmp_path: Path) -> None:
    blobs = open_store(settings)
    first, second = (tmp_path / name for name in ("first", "second"))
    for folder in (first, second):
        folder.mkdir()
    with closing(Database(settings.registry_url)) as database:
        job_id = submitted(settings, database)
        with database.writing() as session:
            lease = jobs.claim(session, job_id)
        assert lease is not None
        (first / "reached").write_bytes(b"epoch 3")
        checkpoints = Checkpoints(database, blobs, lease, first)
        checkpoints.keep("reached")
        eventually(lambda: len(list(blobs.digests())) == 2, what="the checkpoint in the store")
        checkpoints.end()
        with database.writing() as session:
            jobs.release(session, lease)
            lease = jobs.claim(session, job_id)
        assert lease is not None
        with laid_out(database, blobs, lease, second, intra_op_threads=1):
            checkpoint = JobSpec.read(second).checkpoint
            assert checkpoint is not None
            assert (second / checkpoint).read_bytes() == b"epoch 3"
            assert len(SqliteBlobStore.leased) == 2


def test_a_large_model_is_mapped_from_a_file_of_its_own(client: TestClient) -> None:
    """Its lease ends when the mapped form is made."""
    model = graphs.linear_classifier(features=2048, classes=1024)
    assert upload_model(client, onnx_bytes(model)).status_code == 201
    row = {"name": "x", "datatype": "FP32", "shape": [1, 2048], "data": [1.0] * 2048}
    answer = client.post("/v2/models/linear/infer", json={"inputs": [row]})
    assert np.abs(answer.json()["outputs"][0]["data"]).max() > 0
    assert SqliteBlobStore.leased == []


def test_external_data_stays_leased_while_the_model_is_loaded(settings: Settings, tmp_path: Path) -> None:
    """The engine maps the file, so that a store that took it back would change the answers."""
    folder = tmp_path / "model"
    folder.mkdir()
    onnx.save_model(
        graphs.linear_classifier(features=256, classes=64),
        folder / "model.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    blobs = open_store(settings)
    digests = {name: sha256_of(folder / name) for name in ("model.onnx", "weights.bin")}
    x = {"x": np.ones((1, 256), np.float32)}
    expected = ReferenceEvaluator(str(folder / "model.onnx")).run(None, x)[0]
    for name, digest in digests.items():
        blobs.put(folder / name, digest)
    artifact = Artifact("onnxruntime", digests["model.onnx"], digests["weights.bin"], "weights.bin")
    pool = Pool(blobs, settings.scratch_folder, settings.mapped_folder, intra_op_threads=1)
    with pool.lease(artifact) as loaded:
        assert sorted(SqliteBlobStore.leased) == sorted(digests.values())
        np.testing.assert_allclose(loaded.run(x)[0], expected, rtol=1e-4)
    assert len(SqliteBlobStore.leased) == 2
    assert pool.unload(artifact)
    assert SqliteBlobStore.leased == []
    pool.close()


def test_a_model_that_cannot_be_loaded_gives_its_leases_back(settings: Settings, tmp_path: Path) -> None:
    blobs = open_store(settings)
    (tmp_path / "bad").write_bytes(b"no model")
    blobs.put(tmp_path / "bad", "b" * 64)
    pool = Pool(blobs, settings.scratch_folder, settings.mapped_folder, intra_op_threads=1)
    for digest, problem in (("b" * 64, "failed to load"), ("c" * 64, "the artifact was deleted")):
        with pytest.raises(InvalidModel, match=problem):
            pool.load(Artifact("onnxruntime", digest))
        assert SqliteBlobStore.leased == []
    pool.close()
