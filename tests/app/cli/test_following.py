"""How `upload --quantize` and `quantize` end, when their jobs do."""

import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.app.cli.answers import INT8, JOB, ORIGINAL, stream
from tests.app.cli.conftest import Octet

ENDS: dict[str, dict[str, Any]] = {
    "succeeded": {"state": "succeeded", "stage": "done", "progress": 1.0},
    "failed": {"state": "failed", "stage": "calibrate", "progress": 0.2, "error": "the dataset has no array 'x'"},
    "cancelled": {"state": "cancelled", "stage": "calibrate", "progress": 0.2},
}


class Server:
    """Makes a job of each request for one, and has each end as its method's name in `ends` says."""

    def __init__(self, ends: dict[str, str]) -> None:
        self._ends = {method: ENDS[state] for method, state in ends.items()}
        self.asked: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/api/v1/jobs":
            wanted = json.loads(request.read())
            self.asked.append(wanted)
            return httpx.Response(202, json=self._job(wanted["method"]))
        if path == "/api/v1/models":
            request.read()
            return httpx.Response(
                201, json={"revision": 1, "size_bytes": 10, "jobs": [self._job(method) for method in self._ends]}
            )
        if path.endswith("/variants"):
            return httpx.Response(200, json=[ORIGINAL, INT8])
        method = path.split("/")[4]
        if path.endswith("/events"):
            return httpx.Response(200, content=stream([JOB, self._ends[method]]))
        return httpx.Response(200, json=self._job(method) | self._ends[method])

    def _job(self, method: str) -> dict[str, Any]:
        return JOB | {"id": method, "method": method, "variant": method}


def test_jobs_that_succeed_end_with_the_comparison(octet: Octet, output: io.StringIO) -> None:
    server = Server({"fp16": "succeeded", "int8": "succeeded"})
    assert octet(server, "quantize", "resnet", "fp16", "int8", "--dataset", "cifar10").exit_code == 0
    assert [(job["method"], job["dataset"]) for job in server.asked] == [("fp16", "cifar10"), ("int8", "cifar10")]
    assert "1.91–1.99" in output.getvalue()


@pytest.mark.parametrize(
    ("state", "words"),
    [("failed", "int8 failed: the dataset has no array 'x'"), ("cancelled", "int8 cancelled: by request")],
)
def test_one_job_that_does_not_succeed_fails_the_command(
    octet: Octet, output: io.StringIO, state: str, words: str
) -> None:
    done = octet(Server({"fp16": "succeeded", "int8": state}), "quantize", "resnet", "fp16", "int8")
    assert done.exit_code == 1
    assert words in output.getvalue().splitlines()
    assert ("octet jobs show " in output.getvalue()) == (state == "failed")
    assert "fp16 succeeded" not in output.getvalue()


def test_an_upload_follows_the_jobs_it_asked_for(octet: Octet, output: io.StringIO, tmp_path: Path) -> None:
    file = tmp_path / "resnet.onnx"
    file.write_bytes(b"onnx")
    server = Server({"fp16": "succeeded", "int8": "failed"})
    assert octet(server, "upload", str(file), "--quantize", "fp16, int8").exit_code == 1
    assert "int8 failed: the dataset has no array 'x'" in output.getvalue()
    assert octet(server, "upload", str(file), "--quantize", "fp16").exit_code == 0
    assert octet(server, "upload", str(file)).exit_code == 0


def test_no_wait_follows_nothing(octet: Octet, output: io.StringIO) -> None:
    assert octet(Server({"int8": "failed"}), "quantize", "resnet", "int8", "--no-wait").exit_code == 0
    assert "queued" in output.getvalue()
    assert "failed" not in output.getvalue()


def test_options_are_json_where_they_can_be_and_text_where_not(octet: Octet, output: io.StringIO) -> None:
    server = Server({"int8": "succeeded"})
    pairs = ["a=1", "b=0.5", "c=true", 'd=["x","y"]', "e=entropy", "f=k=v", "g="]
    arguments = [word for pair in pairs for word in ("--option", pair)]
    assert octet(server, "quantize", "resnet", "int8", "--no-wait", *arguments).exit_code == 0
    expected = {"a": 1, "b": 0.5, "c": True, "d": ["x", "y"], "e": "entropy", "f": "k=v", "g": ""}
    assert server.asked[0]["options"] == expected


@pytest.mark.parametrize(
    "arguments",
    [
        ("quantize", "resnet", "int8", "--option", "no-sign"),
        ("quantize", "resnet", "int8", "fp16", "--variant", "small"),
        ("jobs", "--cancel"),
    ],
)
def test_a_misuse_is_told_before_the_server_is_asked(octet: Octet, arguments: tuple[str, ...]) -> None:
    def never(request: httpx.Request) -> httpx.Response:
        raise AssertionError(f"{request.url} was asked for")

    assert octet(never, *arguments).exit_code == 2
