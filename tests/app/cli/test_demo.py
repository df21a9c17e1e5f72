"""The demo on the real gateway, in this process; without a worker, so that its jobs stay queued."""

import importlib
import io
import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from rich.console import Console
from typer.testing import CliRunner, Result

from app import cli
from app.cli.connection import Connection, Refused

# `app.cli.demo` is the command, which has the name of its module.
demo = importlib.import_module("app.cli.demo")
EXAMPLES = Path(cli.__file__).parents[2] / "examples"


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    written = io.StringIO()
    monkeypatch.setattr(demo, "console", Console(width=120, file=written))
    return written


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The variants of the jobs that were followed, a list for each time."""
    times: list[list[str]] = []

    def follow(_: Console, __: Connection, jobs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        times.append(sorted(job["variant"] for job in jobs))
        return [job | {"state": "succeeded"} for job in jobs]

    monkeypatch.setattr(demo, "follow", follow)
    return times


def test_a_second_demo_takes_up_what_the_first_began(
    client: TestClient, output: io.StringIO, followed: list[list[str]]
) -> None:
    connection = Connection(client)
    for _ in range(2):
        demo._upload(connection, EXAMPLES)
        demo._quantize(connection)
    assert followed == [["dynamic", "fp16", "int8"]] * 2
    assert len(client.get("/api/v1/jobs").json()) == 3
    (model,) = client.get("/api/v1/models").json()
    assert (model["name"], model["revision"], len(model["labels"])) == ("resnet20", 1, 10)
    (dataset,) = client.get("/api/v1/datasets").json()
    assert (dataset["name"], dataset["samples"], dataset["labelled"]) == ("cifar10", 512, True)


def test_a_job_that_was_cancelled_is_asked_for_again(
    client: TestClient, output: io.StringIO, followed: list[list[str]]
) -> None:
    connection = Connection(client)
    demo._upload(connection, EXAMPLES)
    demo._quantize(connection)
    (int8,) = [job for job in client.get("/api/v1/jobs").json() if job["variant"] == "int8"]
    assert client.delete(f"/api/v1/jobs/{int8['id']}").status_code == 202
    demo._quantize(connection)
    assert followed[1] == ["dynamic", "fp16", "int8"]
    assert len(client.get("/api/v1/jobs").json()) == 4


def test_the_demo_asks_each_variant_about_a_labelled_sample(client: TestClient, output: io.StringIO) -> None:
    connection = Connection(client)
    demo._upload(connection, EXAMPLES)
    demo._infer(connection, EXAMPLES, ["original"])
    labels = json.loads((EXAMPLES / "cifar10_labels.json").read_text())
    with np.load(EXAMPLES / "cifar10_512.npz") as arrays:
        truth = labels[int(arrays["label"][7])]
    assert f"original: {truth} ✓ (label: {truth})" in output.getvalue()


def test_a_job_of_the_demo_that_fails_is_told_with_its_reason() -> None:
    with pytest.raises(Refused, match="the job for 'int8' failed: out of memory"):
        demo._check([{"variant": "int8", "state": "failed", "error": "out of memory"}])


def test_a_demo_without_its_examples_says_where_they_were_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.__file__", str(tmp_path / "app" / "__init__.py"))
    with pytest.raises(Refused, match="run the demo from a checkout"):
        demo._examples()


def started(monkeypatch: pytest.MonkeyPatch, *arguments: str, taken: Collection[int]) -> tuple[Result, list[int]]:
    """The result of `octet demo` up to the start of its service, and the ports, of HTTP and gRPC, given to that."""
    ports: list[int] = []

    @contextmanager
    def start(*, home: Path, host: str, port: int, grpc_port: int, log: Path, insecure: bool) -> Iterator[object]:
        ports.extend((port, grpc_port))
        yield object()

    monkeypatch.setattr(demo, "start_service", start)
    monkeypatch.setattr(demo, "is_free", lambda host, port: port not in taken)
    monkeypatch.setattr(demo, "_show", lambda service, examples, *, leave: 0 if leave else 3)
    return CliRunner().invoke(cli.app, ["demo", *arguments]), ports


def test_a_taken_port_is_changed_for_a_free_one_and_said_so(
    monkeypatch: pytest.MonkeyPatch, output: io.StringIO, tmp_path: Path
) -> None:
    monkeypatch.setenv("OCTET_PORT", "8123")
    done, ports = started(monkeypatch, "--exit", "--home", str(tmp_path), taken={8123})
    assert (done.exit_code, ports) == (0, [0, 0])
    assert "Port 8123 is taken" in output.getvalue()


def test_a_free_port_is_kept_and_the_end_of_the_service_is_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, output: io.StringIO, tmp_path: Path
) -> None:
    monkeypatch.setenv("OCTET_PORT", "8123")
    done, ports = started(monkeypatch, "--home", str(tmp_path), taken=())
    assert (done.exit_code, ports) == (3, [8123, 8001])
    assert output.getvalue() == ""


def test_without_a_free_port_for_grpc_there_is_none(
    monkeypatch: pytest.MonkeyPatch, output: io.StringIO, tmp_path: Path
) -> None:
    done, ports = started(monkeypatch, "--home", str(tmp_path), taken={8001})
    assert (done.exit_code, ports) == (3, [8000, 0])
    assert "Port 8001 is taken: nothing is served over gRPC" in output.getvalue()


def test_a_port_that_was_asked_for_is_not_changed(
    monkeypatch: pytest.MonkeyPatch, output: io.StringIO, tmp_path: Path
) -> None:
    _, ports = started(monkeypatch, "--port", "8124", "--home", str(tmp_path), taken={8124})
    assert ports == [8124, 8001]
