"""What a server, a file or a user may hold that the command line must survive."""

import io
from pathlib import Path

import httpx
import numpy as np
import pytest

from app import cli
from app.cli import inference
from app.cli.inference import Answer
from app.errors import OctetError
from tests.app.cli.answers import JOB, Handler, connection, stream
from tests.app.cli.conftest import Octet

BRACKETS = "expected [batch, 3], got [/x]"


def test_an_error_with_brackets_is_told_to_the_letter(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise OctetError(BRACKETS)

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().err == f"octet: {BRACKETS}\n"


def test_a_failure_with_brackets_is_told_to_the_letter(octet: Octet, output: io.StringIO) -> None:
    failed = JOB | {"state": "failed", "error": BRACKETS}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            return httpx.Response(200, content=stream([failed]))
        return httpx.Response(200, json=JOB if request.method == "POST" else failed)

    assert octet(answer, "quantize", "resnet", "int8").exit_code == 1
    assert f"int8 failed: {BRACKETS}" in output.getvalue()


def test_values_that_are_not_numbers_are_shown(
    octet: Octet, output: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 2), np.float32))
    answer = Answer("int8", {"y": np.array([np.nan, np.inf])}, 1.0)
    monkeypatch.setattr(inference, "ask", lambda *_: answer)
    server: Handler = lambda _: httpx.Response(200, json={"labels": None})  # noqa: E731
    assert octet(server, "infer", "resnet", "--input", str(tmp_path / "x.npy")).exit_code == 0
    assert "[nan, inf, …]" in output.getvalue()


@pytest.mark.parametrize("content", [b"hello", b"", b"PK\x03\x04 cut short", b"\x93NUMPY\x01\x00"])
def test_a_file_that_holds_no_arrays_is_refused_by_its_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(OctetError, match=r"x\.npz"):
        inference.read_sample(tmp_path / "x.npz", 0)


def test_objects_in_a_file_are_refused_and_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.array([{}], dtype=object))
    with pytest.raises(OctetError, match=r"x\.npz"):
        inference.read_sample(tmp_path / "x.npz", 0)


def test_another_server_at_the_address_is_told_as_such() -> None:
    with pytest.raises(OctetError, match="http://octet"):
        connection(lambda _: httpx.Response(200, text="<html>")).json("GET", "/api/v1/models")


def test_an_option_that_json_cannot_carry_goes_as_text(octet: Octet, output: io.StringIO) -> None:
    sent: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.read())
        return httpx.Response(202, json=JOB)

    assert octet(answer, "quantize", "resnet", "int8", "--option", "p=NaN", "--no-wait").exit_code == 0
    assert b'"options":{"p":"NaN"}' in sent[0]


def test_a_download_into_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OctetError, match="nowhere"):
        connection(lambda _: httpx.Response(200, content=b"")).download(
            "/x", tmp_path / "nowhere" / "m", lambda _: None
        )


def test_a_stream_that_ends_before_its_job_is_taken_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a proxy in between ends it: without an error."""
    monkeypatch.setattr("app.cli.connection._pause", lambda: None)
    resumed_from: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        resumed_from.append(request.headers.get("Last-Event-ID"))
        state = "running" if len(resumed_from) == 1 else "succeeded"
        return httpx.Response(200, content=stream([{"state": state}], first_id=len(resumed_from)))

    assert [event["state"] for event in connection(answer).events("j")] == ["running", "succeeded"]
    assert resumed_from == [None, "1"]
