"""The client commands against the real gateway, in this process; without a worker."""

import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner, Result

from app import cli
from app.cli import client as commands
from app.cli import job_commands
from app.cli.connection import Connection
from app.errors import OctetError
from app.registry import Database, jobs
from tests import graphs
from tests.app.conftest import npz_bytes, onnx_bytes, upload_dataset, upload_model


@pytest.fixture(autouse=True)
def connected(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def connect(_: str) -> Iterator[Connection]:
        yield Connection(client)

    for module in (commands, job_commands):
        monkeypatch.setattr(module, "connect", connect)
        monkeypatch.setattr(module, "console", commands.Console(width=160, force_terminal=False))


def octet(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments))


def test_upload_tells_models_from_datasets(client: TestClient, tmp_path: Path, output: io.StringIO) -> None:
    (tmp_path / "My Model v2.onnx").write_bytes(onnx_bytes())
    (tmp_path / "samples.npz").write_bytes(npz_bytes())
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.writestr("inner/model.onnx", onnx_bytes())
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\ndog\neel\nfox\n")
    assert octet("upload", str(tmp_path / "My Model v2.onnx"), "--labels", str(labels)).exit_code == 0
    assert octet("upload", str(tmp_path / "samples.npz")).exit_code == 0
    assert octet("upload", str(tmp_path / "packed.zip"), "--name", "packed").exit_code == 0
    models = {model["name"]: model for model in client.get("/api/v1/models").json()}
    assert set(models) == {"my-model-v2", "packed"}
    assert models["my-model-v2"]["labels"] == ["cat", "dog", "eel", "fox"]
    assert [dataset["name"] for dataset in client.get("/api/v1/datasets").json()] == ["samples"]
    assert "128 samples" in output.getvalue()


def test_quantize_passes_options_and_jobs_lists_and_cancels(client: TestClient, output: io.StringIO) -> None:
    upload_dataset(client)
    upload_model(client)
    options = ["--option", "calibration_samples=32", "--option", "activation_type=int8"]
    done = octet("quantize", "linear", "int8", "--dataset", "samples", "--variant", "small", *options, "--no-wait")
    assert done.exit_code == 0
    (job,) = client.get("/api/v1/jobs").json()
    assert job["variant"] == "small"
    assert job["options"]["calibration_samples"] == 32
    assert job["options"]["activation_type"] == "int8"
    assert octet("jobs", "--state", "queued").exit_code == 0
    assert job["id"] in output.getvalue()
    assert octet("jobs", job["id"], "--cancel").exit_code == 0
    assert client.get(f"/api/v1/jobs/{job['id']}").json()["state"] == "cancelled"


def test_a_job_is_shown_whole(client: TestClient, registry: Database, output: io.StringIO) -> None:
    assert octet("quantize", "linear", "dynamic", "--variant", "small", "--no-wait").exit_code == 0
    (job,) = client.get("/api/v1/jobs", params={"state": "queued"}).json()
    with registry.writing() as session:
        lease = jobs.claim(session, job["id"])
    assert lease is not None
    with registry.writing() as session:
        jobs.fail(session, lease, "[broken]", traceback="Traceback [red]", log="last [words]\nof it")
    assert octet("jobs", "show", job["id"]).exit_code == 0
    shown = output.getvalue()
    for words in (job["id"], "per_channel=", "[broken]", "attempt 1 failed", "Traceback [red]", "last [words]\nof it"):
        assert words in shown


@pytest.mark.parametrize("words", [["show"], ["show", "a", "b"], ["a", "b"]])
def test_one_job_is_shown_at_a_time(words: list[str]) -> None:
    result = octet("jobs", *words)
    assert result.exit_code == 2
    assert "name one job" in result.output


def test_compare_shows_dashes_for_what_was_not_measured(client: TestClient, output: io.StringIO) -> None:
    upload_model(client)
    assert octet("compare", "linear").exit_code == 0
    row = next(line for line in output.getvalue().splitlines() if "original" in line)
    assert "original *" in row
    assert "100%" in row
    assert row.count("–") >= 6
    assert "None" not in output.getvalue()


def test_infer_names_the_classes(client: TestClient, tmp_path: Path, output: io.StringIO) -> None:
    upload_model(client, labels='["cat", "dog", "eel", "fox"]')
    samples = graphs.labelled_samples()
    np.savez(tmp_path / "x.npz", **samples)  # type: ignore[arg-type]
    np.save(tmp_path / "x.npy", samples["x"])
    for file in ("x.npz", "x.npy"):
        assert octet("infer", "linear@original", "--input", str(tmp_path / file), "--sample", "3").exit_code == 0
    first, second = [line for line in output.getvalue().splitlines() if line.startswith("logits")]
    assert first == second
    request = {"inputs": [{"name": "x", "shape": [1, 16], "datatype": "FP32", "data": samples["x"][3].tolist()}]}
    best = int(np.argmax(client.post("/v2/models/linear/infer", json=request).json()["outputs"][0]["data"]))
    assert first.startswith(f"logits: {['cat', 'dog', 'eel', 'fox'][best]} ")


def test_download_is_whole_and_checked(client: TestClient, tmp_path: Path) -> None:
    upload_model(client)
    target = tmp_path / "copy.onnx"
    assert octet("download", "linear", "original", "-o", str(target)).exit_code == 0
    assert target.read_bytes() == onnx_bytes()
    assert list(tmp_path.glob("*.part")) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "nothing"], "'nothing'"),
        (["jobs", "nothing"], "no job"),
        (["quantize", "linear", "int3", "--no-wait"], "fp16"),
        (["download", "linear", "int8"], "original"),
    ],
)
def test_what_the_server_refuses_is_told_in_its_words(client: TestClient, arguments: list[str], words: str) -> None:
    upload_model(client)
    done = octet(*arguments)
    assert isinstance(done.exception, OctetError)
    assert words in done.exception.detail


def test_a_sample_that_is_not_there_is_refused(client: TestClient, tmp_path: Path) -> None:
    upload_model(client)
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 16), np.float32))
    done = octet("infer", "linear", "--input", str(tmp_path / "x.npz"), "--sample", "2")
    assert isinstance(done.exception, OctetError)
    assert "no sample 2" in done.exception.detail
    np.savez(tmp_path / "y.npz", y=np.zeros((2, 16), np.float32))
    done = octet("infer", "linear", "--input", str(tmp_path / "y.npz"))
    assert isinstance(done.exception, OctetError)
    assert "'x'" in done.exception.detail


def test_a_damaged_download_leaves_no_file(tmp_path: Path) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=b"half", headers={"ETag": '"of the whole"'})

    connection = Connection(httpx.Client(base_url="http://octet", transport=httpx.MockTransport(answer)))
    with pytest.raises(OctetError, match="damaged"):
        connection.download("/x", tmp_path / "model.onnx", lambda _: None)
    assert list(tmp_path.glob("model.onnx*")) == []


def test_a_broken_event_stream_is_taken_up_where_it_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    resumed_from: list[str | None] = []

    class Broken(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b'id: 5\r\ndata: {"state": "running"}\r\n\r\n'
            raise httpx.ReadError("gone")

    def answer(request: httpx.Request) -> httpx.Response:
        resumed_from.append(request.headers.get("Last-Event-ID"))
        if len(resumed_from) == 1:
            return httpx.Response(200, stream=Broken())
        return httpx.Response(200, content=b'id: 6\r\ndata: {"state": "succeeded"}\r\n\r\n')

    monkeypatch.setattr("app.cli.connection._pause", lambda: None)
    connection = Connection(httpx.Client(base_url="http://octet", transport=httpx.MockTransport(answer)))
    assert [event["state"] for event in connection.events("j")] == ["running", "succeeded"]
    assert resumed_from == [None, "5"]


def test_an_absent_server_is_one_clear_sentence() -> None:
    connection = Connection(httpx.Client(base_url="http://127.0.0.1:1"))
    with pytest.raises(OctetError, match="octet serve"):
        connection.json("GET", "/api/v1/models")


def test_config_masks_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTET_DATABASE_URL", "postgresql://octet:hunter2@db/octet")
    done = octet("config", "--json")
    assert json.loads(done.stdout)["database_url"] == "postgresql://octet:***@db/octet"
    table = octet("config").stdout
    assert "hunter2" not in table
