import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.cli.connection import Refused
from app.errors import OctetError, Unavailable
from tests.app.cli.answers import connection, stream

_MIB = 1 << 20


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            httpx.Response(409, json={"title": "Conflict", "status": 409, "detail": "a job is running"}),
            "a job is running",
        ),
        (httpx.Response(400, json={"error": "input 'x' is missing"}), "input 'x' is missing"),
        (httpx.Response(502, text="<html>Bad gateway</html>"), "the server answered 502 Bad Gateway"),
        (httpx.Response(500, json=["not", "an", "object"]), "the server answered 500 Internal Server Error"),
        (httpx.Response(503, json={}), "the server answered 503 Service Unavailable"),
    ],
)
def test_every_shape_of_error_becomes_one_sentence(answer: httpx.Response, words: str) -> None:
    with pytest.raises(Refused) as raised:
        connection(lambda _: answer).json("GET", "/api/v1/models")
    assert raised.value.detail == words


def test_a_server_that_hangs_up_is_told_as_unreachable() -> None:
    def hang_up(_: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("connection reset")

    with pytest.raises(Unavailable, match=r"http://octet.*connection reset.*octet serve.*--url"):
        connection(hang_up).json("GET", "/api/v1/models")


class Piecewise(httpx.BaseTransport):
    """Takes a request as a socket would: piece by piece, never whole. Keeps the size of the largest piece."""

    def __init__(self) -> None:
        self.largest = 0
        self.total = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.SyncByteStream)
        for piece in request.stream:
            self.largest = max(self.largest, len(piece))
            self.total += len(piece)
        return httpx.Response(201, json={})


def test_an_upload_is_read_in_pieces_and_counted_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(bytes(8 * _MIB + 17))
    transport, counted = Piecewise(), list[int]()
    session = connection(lambda _: httpx.Response(500))
    session.http._transport = transport
    session.upload("/api/v1/models", file, {"name": "resnet"}, counted.append)
    assert transport.largest <= _MIB
    assert transport.total > 8 * _MIB + 17
    assert counted == sorted(counted)
    assert counted[-1] == 8 * _MIB + 17
    assert len(counted) > 8


def test_an_upload_carries_its_fields_and_the_name_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "resnet.onnx"
    file.write_bytes(b"onnx bytes")
    bodies: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(request.read())
        return httpx.Response(201, json={"revision": 1})

    made = connection(answer).upload("/api/v1/models", file, {"name": "resnet", "quantize": "int8"}, lambda _: None)
    assert made == {"revision": 1}
    assert b'name="quantize"\r\n\r\nint8' in bodies[0]
    assert b'name="file"; filename="resnet.onnx"' in bodies[0]
    assert b"onnx bytes" in bodies[0]


def test_a_damaged_download_leaves_the_older_file_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    target.write_bytes(b"older and whole")
    damaged = httpx.Response(200, content=b"newer", headers={"ETag": '"of something else"'})
    with pytest.raises(Refused, match="damaged"):
        connection(lambda _: damaged).download("/artifact", target, lambda _: None)
    assert target.read_bytes() == b"older and whole"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_download_that_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    class Broken(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b"half"
            raise httpx.ReadError("gone")

    with pytest.raises(Unavailable, match="gone"):
        connection(lambda _: httpx.Response(200, stream=Broken())).download("/x", tmp_path / "m", lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_a_refused_download_is_told_in_the_words_of_the_server(tmp_path: Path) -> None:
    refusal = httpx.Response(404, json={"detail": "'resnet' has no variant 'int4'"})
    with pytest.raises(Refused, match="no variant 'int4'"):
        connection(lambda _: refusal).download("/x", tmp_path / "m", lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_events_skip_the_comments_that_keep_a_stream_alive() -> None:
    content = b": ping\r\n\r\n" + stream([{"state": "running"}]) + b": ping\r\n\r\n" + stream([{"state": "succeeded"}])
    events = connection(lambda _: httpx.Response(200, content=content)).events("j")
    assert [event["state"] for event in events] == ["running", "succeeded"]


def test_events_of_no_job_are_refused_and_not_asked_for_again() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(404, json={"detail": "there is no job 'j'"})

    with pytest.raises(Refused, match="no job 'j'"):
        list(connection(answer).events("j"))
    assert asked == ["/api/v1/jobs/j/events"]


def test_a_server_that_stays_away_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[None] = []
    monkeypatch.setattr("app.cli.connection._pause", lambda: pauses.append(None))

    def stay_away(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(Unavailable, match=r"lost the server at http://octet"):
        list(connection(stay_away).events("j"))
    assert len(pauses) == 20


def test_progress_between_breaks_renews_the_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """30 breaks, each after an event: more than would be forgiven in a row."""
    monkeypatch.setattr("app.cli.connection._pause", lambda: None)
    resumed_from: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        resumed_from.append(request.headers.get("Last-Event-ID"))
        number = len(resumed_from)
        event = {"state": "succeeded" if number == 31 else "running", "number": number}

        class OneEvent(httpx.SyncByteStream):
            def __iter__(self) -> Iterator[bytes]:
                yield stream([event], first_id=number)
                if number < 31:
                    raise httpx.RemoteProtocolError("incomplete chunked read")

        return httpx.Response(200, stream=OneEvent())

    events = list(connection(answer).events("j"))
    assert [event["number"] for event in events] == list(range(1, 32))
    assert resumed_from == [None, *(str(number) for number in range(1, 31))]


def test_a_problem_keeps_its_brackets_and_its_letters() -> None:
    detail = "input 'x' wants [batch, 3, 224, 224] – größer"
    body = json.dumps({"detail": detail}).encode()
    with pytest.raises(OctetError) as raised:
        connection(lambda _: httpx.Response(400, content=body)).json("GET", "/")
    assert raised.value.detail == detail
