"""What one sends below HTTP clients: a gateway of its own, and sockets."""

import re
import socket
import threading
from collections.abc import Iterator

import httpx
import psutil
import pytest

from tests import graphs
from tests.e2e.service import Service

ONE = {"inputs": [{"name": "x", "shape": [1, 16], "datatype": "FP32", "data": [0.5] * 16}]}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    limits = {
        "OCTET_MAX_UPLOAD_BYTES": str(8 * 1024**2),
        "OCTET_MAX_INFERENCE_BYTES": str(4 * 1024**2),
        "OCTET_INFERENCE_BODY_SECONDS": "2",
    }
    service = Service(tmp_path_factory.mktemp("sockets") / "home", limits)
    service.start()
    service.upload_model(graphs.linear_classifier().SerializeToString(), name="linear")
    yield service
    service.stop()


@pytest.fixture(autouse=True)
def unharmed(service: Service) -> Iterator[None]:
    """After each attack the same process answers, and keeps nothing of it."""
    gateway = service.processes["serve"].popen.pid
    yield
    assert service.processes["serve"].popen.poll() is None
    assert service.processes["serve"].popen.pid == gateway
    assert service.http.post("/v2/models/linear/infer", json=ONE).status_code == 200
    assert service.leftovers() == []


def connected(service: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=60)


def told(connection: socket.socket) -> bytes:
    """What is answered until the connection ends, the answer is whole, or nothing more comes."""
    connection.settimeout(10)
    answer = b""
    try:
        while not is_whole(answer) and (piece := connection.recv(65536)):
            answer += piece
    except (TimeoutError, ConnectionResetError):
        pass
    return answer


def is_whole(answer: bytes) -> bool:
    """Whether as much has come as its head says: after that, the gateway waits for another request."""
    lines, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: *(\d+)", lines, re.IGNORECASE)
    return bool(end) and length is not None and len(body) >= int(length[1])


def head(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


CHUNKED = "Transfer-Encoding: chunked"
FORM = "Content-Type: multipart/form-data; boundary=b"


def resident_bytes(service: Service) -> int:
    return sum(process.memory_info().rss for process in service.processes["serve"].family())


@pytest.mark.parametrize("path", ["/v2/models/linear/infer", "/api/v1/models", "/api/v1/jobs"])
def test_a_million_chunks_of_a_byte_are_no_more_than_a_million_bytes(service: Service, path: str) -> None:
    before = resident_bytes(service)
    with connected(service) as connection:
        connection.sendall(head(path, CHUNKED, FORM if path.endswith("models") else "Content-Type: application/json"))
        try:
            for _ in range(1000):
                connection.sendall(b"1\r\n{\r\n" * 1000)
            connection.sendall(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has seen enough
        answer = told(connection)
    assert not answer or b" 4" in answer.split(b"\r\n")[0]
    assert resident_bytes(service) - before < 300 * 1024**2


MALFORMED: dict[str, bytes] = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc" * 100,
    "a header of a megabyte": head("/v2/models/linear/infer", "X: " + "x" * 1024**2),
    "a hundred thousand headers": head("/v2/models/linear/infer", *[f"X-{n}: 1" for n in range(100_000)]),
    "an address of a megabyte": head("/v2/models/" + "x" * 1024**2),
    "two lengths": head("/v2/models/linear/infer", "Content-Length: 5", "Content-Length: 6") + b"{}   ",
    "a length and chunks": head("/v2/models/linear/infer", "Content-Length: 5", CHUNKED) + b"0\r\n\r\n",
    "a negative length": head("/v2/models/linear/infer", "Content-Length: -1"),
    "a length beyond 64 bits": head("/v2/models/linear/infer", "Content-Length: 99999999999999999999999"),
    "a length over the limit": head("/api/v1/models", FORM, "Content-Length: 999999999999") + b"--b\r\n",
    "a chunk beyond 64 bits": head("/v2/models/linear/infer", CHUNKED) + b"fffffffffffffffffff\r\n",
    "a chunk that is none": head("/v2/models/linear/infer", CHUNKED) + b"xyz\r\n",
    "a line ended by itself": b"POST /v2/models/linear/infer HTTP/1.1\nHost: x\nContent-Length: 2\n\n{}",
    "a header that smuggles": head("/v2", "X: a\r\nContent-Length: 5"),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_what_is_no_http_is_refused_or_dropped(service: Service, what: str) -> None:
    with connected(service) as connection:
        try:
            connection.sendall(MALFORMED[what])
            connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError, OSError):
            pass
        answer = told(connection)
    status = answer.split(b" ")[1:2]
    assert not status or status[0].startswith((b"4", b"501")), answer[:300]


def test_a_body_that_never_comes_holds_up_nobody(service: Service) -> None:
    idle = [connected(service) for _ in range(200)]
    try:
        for number, connection in enumerate(idle):
            path = "/v2/models/linear/infer" if number % 2 else "/api/v1/models"
            connection.sendall(head(path, FORM, "Content-Length: 1000000") + b"--b\r\n")
        with httpx.Client(base_url=service.url, timeout=20) as http:
            for _ in range(20):
                assert http.get("/v2/health/live").status_code == 200
                assert http.post("/v2/models/linear/infer", json=ONE).status_code == 200
    finally:
        for connection in idle:
            connection.close()


def test_health_is_told_while_large_uploads_come_in(service: Service) -> None:
    content = (
        b"--b\r\n" + b'Content-Disposition: form-data; name="file"; filename="m.onnx"\r\n\r\n' + bytes(7 * 1024**2)
    )
    answers: list[int] = []

    def upload() -> None:
        with httpx.Client(base_url=service.url, timeout=60) as http:
            for _ in range(3):
                answer = http.post("/api/v1/models", content=content, headers=dict([FORM.split(": ")]))
                answers.append(answer.status_code)

    uploads = [threading.Thread(target=upload) for _ in range(4)]
    for thread in uploads:
        thread.start()
    asked = 0
    with httpx.Client(base_url=service.url, timeout=20) as http:
        while any(thread.is_alive() for thread in uploads):
            assert http.get("/v2/health/live").status_code == 200
            asked += 1
    assert asked > 0
    assert len(answers) == 12
    assert all(400 <= status < 500 for status in answers)


def test_clients_that_leave_in_mid_request_leave_nothing(service: Service) -> None:
    for path in ("/v2/models/linear/infer", "/api/v1/models", "/api/v1/datasets"):
        for _ in range(20):
            with connected(service) as connection:
                connection.sendall(head(path, FORM, "Content-Length: 5000000") + b"--b\r\n" + bytes(100_000))
    gateway = psutil.Process(service.processes["serve"].popen.pid)
    assert sum(process.num_fds() for process in [gateway, *gateway.children(recursive=True)]) < 400
