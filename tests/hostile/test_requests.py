"""Names, forms and bodies that no client of good will sends: a clear 4xx, and nothing changes."""

import io
import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi.testclient import TestClient

from app.settings import Settings
from tests.app.conftest import npz_bytes, onnx_bytes

pytestmark = pytest.mark.usefixtures("unharmed")

NAMES = [
    "../etc", "..", ".", "a/../b", "model/..", " ..", "/etc/passwd", "model/", " ", "", "a b", "x" * 256, "x" * 100_000,
    "%2e%2e%2f", "%252e%252e%252f", "..\\..\\windows", "a\x00b", "a\nb", "-rf", ".hidden", "_x", "CON", "naïve", "模型",
    "\u202egpj.exe", "'; DROP TABLE models; --", "{{7*7}}", "${jndi:ldap://x}", "<script>alert(1)</script>", "\ud800",
    "linear:1", "~root", "null", "__class__",
]  # fmt: skip
#: Names that are fit to be names, or stand for another path or for the service itself.
FIT = {"null"}


def refused(answer: httpx.Response, *, field: str | None = None) -> None:
    assert 400 <= answer.status_code < 500, answer.text[:500]
    if answer.headers["Content-Type"] == "application/problem+json" and field is not None:
        assert answer.json()["field"] == field


@pytest.mark.parametrize("name", [name for name in NAMES if name not in FIT and name.isprintable()], ids=ascii)
@pytest.mark.parametrize("noun", ["models", "datasets"])
def test_a_name_that_is_none_names_nothing(client: TestClient, noun: str, name: str) -> None:
    content = onnx_bytes() if noun == "models" else npz_bytes()
    files = {"file": ("m.onnx" if noun == "models" else "d.npz", content)}
    refused(client.post(f"/api/v1/{noun}", files=files, data={"name": name}), field="name")


ROUTES = [
    ("GET", "/api/v1/models/{}"),
    ("DELETE", "/api/v1/models/{}"),
    ("GET", "/api/v1/models/{}/variants"),
    ("GET", "/api/v1/models/linear/variants/{}/report"),
    ("GET", "/api/v1/models/linear/variants/{}/artifact"),
    ("DELETE", "/api/v1/models/linear/variants/{}"),
    ("GET", "/api/v1/models/linear/revisions/{}"),
    ("GET", "/api/v1/datasets/{}"),
    ("DELETE", "/api/v1/datasets/{}"),
    ("GET", "/api/v1/jobs/{}"),
    ("DELETE", "/api/v1/jobs/{}"),
    ("GET", "/api/v1/jobs/{}/events"),
    ("GET", "/api/v1/models/linear/experiments/{}"),
    ("POST", "/api/v1/models/linear/experiments/{}/start"),
    ("GET", "/v2/models/{}"),
    ("GET", "/v2/models/linear/versions/{}"),
    ("POST", "/v2/models/{}/infer"),
    ("POST", "/v2/models/linear/versions/{}/infer"),
    ("POST", "/v2/repository/models/{}/load"),
    ("GET", "/static/{}"),
]


@pytest.mark.parametrize(("method", "route"), ROUTES, ids=[f"{method} {route}" for method, route in ROUTES])
def test_no_route_is_led_astray_by_a_name(client: TestClient, settings: Settings, method: str, route: str) -> None:
    for name in NAMES:
        if "\ud800" in name or len(name) > 60_000:
            continue
        for written in {quote(name, safe=""), quote(quote(name, safe=""), safe=""), name.replace("/", "%2f")}:
            if written.strip("./ ") == "" or any(ord(letter) < 32 for letter in written):
                # Clients resolve these themselves.
                continue
            answer = client.request(method, route.format(written), content=b"{}")
            refused(answer)
            assert "root:" not in answer.text
            assert str(settings.home) not in answer.text


def multipart(parts: list[bytes], *, boundary: bytes = b"b", ending: bytes = b"--b--\r\n") -> dict[str, Any]:
    content = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + ending
    return {"content": content, "headers": {"Content-Type": f"multipart/form-data; boundary={boundary.decode()}"}}


NAME = b'Content-Disposition: form-data; name="name"\r\n\r\nattack'
FILE = b'Content-Disposition: form-data; name="file"; filename="m.onnx"\r\n\r\n' + onnx_bytes()
ADDRESS = b'Content-Disposition: form-data; name="file"\r\n\r\nhttp://127.0.0.1/m'
WITHOUT_A_FILENAME = b'Content-Disposition: form-data; name="file"\r\n\r\n' + bytes(2 * 1024**2)
MANY = [b'Content-Disposition: form-data; name="f%d"\r\n\r\nx' % number for number in range(5000)]

FORMS: dict[str, dict[str, Any]] = {
    "no boundary": {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
    "an empty body": {"content": b"", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
    "a huge boundary": {
        "content": b"x" * 1000, "headers": {"Content-Type": "multipart/form-data; boundary=" + "b" * 50_000},
    },
    "a body of boundaries": {
        "content": b"--b\r\n" * 100_000, "headers": {"Content-Type": "multipart/form-data; boundary=b"},
    },
    "no file": multipart([NAME]),
    "no name": multipart([FILE]),
    "two names": multipart([NAME, NAME.replace(b"attack", b"../x"), FILE]),
    "a file without a filename": multipart([NAME, WITHOUT_A_FILENAME]),
    "a name that is a file": multipart([NAME.replace(b'"name"', b'"name"; filename="x"'), FILE]),
    "thousands of fields": multipart([NAME, FILE, *MANY]),
    "a field of megabytes": multipart([NAME.replace(b"attack", b"a" * 3 * 1024**2), FILE]),
    "no headers in a part": multipart([b"\r\nx", NAME, FILE[:100]]),
    "a header of a part without end": multipart([b"Content-Disposition: " + b"x" * 200_000]),
    "a body that ends early": multipart([NAME, FILE[:-20]], ending=b""),
    "JSON": {"json": {"name": "attack", "file": "http://169.254.169.254/latest"}},
    "a form": {"data": {"name": "attack", "file": "/etc/passwd"}},
    "an address for a file": multipart([NAME, ADDRESS]),
    "over the limit": {"files": {"file": ("m.onnx", io.BytesIO(bytes(5 * 1024**2)))}, "data": {"name": "attack"}},
    "labels that are no list": {
        "files": {"file": ("m.onnx", onnx_bytes())}, "data": {"name": "attack", "labels": "{}"},
    },
    "deep labels": {"files": {"file": ("m.onnx", onnx_bytes())}, "data": {"name": "attack", "labels": "[" * 200_000}},
    "an unknown method": {
        "files": {"file": ("m.onnx", onnx_bytes())}, "data": {"name": "attack", "quantize": "int8,rm -rf"},
    },
    "an unknown dataset": {
        "files": {"file": ("m.onnx", onnx_bytes())}, "data": {"name": "attack", "quantize": "int8", "dataset": "none"},
    },
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_form_that_is_none_uploads_nothing(client: TestClient, form: str) -> None:
    answer = client.post("/api/v1/models", **FORMS[form])
    assert 400 <= answer.status_code < 500, answer.text[:500]
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["detail"]


EXPERIMENTS = "/api/v1/models/linear/experiments"
DEEP = b'{"model":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
JOB = {"model": "linear", "method": "int8", "dataset": "samples"}
ARMS = [{"variant": "original", "weight": 1, "control": True}, {"variant": "original", "weight": 1}]
EXPERIMENT = {"name": "e", "arms": ARMS}

BODIES: list[tuple[str, str, Any]] = [
    ("no body", "/api/v1/jobs", b""),
    ("no JSON", "/api/v1/jobs", b"model=linear"),
    ("deep JSON", "/api/v1/jobs", DEEP),
    ("a list", "/api/v1/jobs", []),
    ("a bare string", "/api/v1/jobs", "int8"),
    ("NaN", "/api/v1/jobs", b'{"model":"linear","method":"int8","options":{"max_accuracy_drop":NaN}}'),
    ("bytes beyond UTF-8", "/api/v1/jobs", b'{"model":"\xff\xfe"}'),
    ("UTF-16", "/api/v1/jobs", json.dumps(JOB).encode("utf-16")),
    ("half a letter", "/api/v1/jobs", b'{"model":"\\ud800","method":"int8"}'),
    ("a null byte in a name", "/api/v1/jobs", b'{"model":"lin\\u0000ear","method":"int8"}'),
    ("an unknown model", "/api/v1/jobs", JOB | {"model": "nothing"}),
    ("an unknown method", "/api/v1/jobs", JOB | {"method": "__import__('os')"}),
    ("an unknown dataset", "/api/v1/jobs", JOB | {"dataset": "nothing"}),
    ("an unknown revision", "/api/v1/jobs", JOB | {"revision": 10**30}),
    ("a negative revision", "/api/v1/jobs", JOB | {"revision": -1}),
    ("a label with a path", "/api/v1/jobs", JOB | {"variant": "../../x"}),
    ("the original's label", "/api/v1/jobs", JOB | {"variant": "original"}),
    ("an unknown option", "/api/v1/jobs", JOB | {"options": {"command": "rm"}}),
    ("an option of another type", "/api/v1/jobs", JOB | {"options": {"calibration_samples": "all"}}),
    ("billions of samples", "/api/v1/jobs", JOB | {"options": {"calibration_samples": 10**12}}),
    ("a seed beyond 64 bits", "/api/v1/jobs", JOB | {"options": {"seed": 2**80}}),
    ("a budget of infinity", "/api/v1/jobs", b'{"model":"linear","method":"fp16","options":{"min_speedup":1e999}}'),
    ("a point of nobody", "/api/v1/jobs", JOB | {"method": "mixed", "options": {"point": "0" * 32}}),
    ("the default of nothing", "/api/v1/models/linear/default", {"variant": "nothing"}),
    ("a default that is a list", "/api/v1/models/linear/default", {"variant": ["original"]}),
    ("an experiment without arms", EXPERIMENTS, {"name": "e", "arms": []}),
    ("one arm twice", EXPERIMENTS, EXPERIMENT),
    ("thousands of arms", EXPERIMENTS, EXPERIMENT | {"arms": ARMS * 5000}),
    ("weights below zero", EXPERIMENTS, EXPERIMENT | {"arms": [ARMS[0] | {"weight": -1}]}),
    ("weights without measure", EXPERIMENTS, EXPERIMENT | {"arms": [ARMS[0] | {"weight": 1e308}] * 9}),
    ("a coverage over 1", EXPERIMENTS, EXPERIMENT | {"coverage": 1.5}),
    ("an alpha of 0", EXPERIMENTS, EXPERIMENT | {"analysis": {"alpha": 0}}),
    ("a unit from a file", EXPERIMENTS, EXPERIMENT | {"unit": {"from": ["file:/etc/passwd"]}}),
    ("a guardrail of nothing", EXPERIMENTS, EXPERIMENT | {"guardrails": [{"metric": "x"}]}),
    ("a ramp that goes down", EXPERIMENTS, EXPERIMENT | {"ramp": {"steps": [0.5, 0.1]}}),
    ("a seed of megabytes", EXPERIMENTS, EXPERIMENT | {"seed": "s" * 3_000_000}),
    ("outcomes that are no list", "/api/v1/outcomes", {"metric": "clicked"}),
    ("an outcome of nobody", "/api/v1/outcomes", [{"metric": "clicked", "value": 1}]),
    ("an outcome of two", "/api/v1/outcomes", [{"metric": "c", "value": 1, "unit": "u", "request_id": "r"}]),
    ("an outcome without measure", "/api/v1/outcomes", b'[{"metric":"c","value":1e999,"unit":"u"}]'),
    ("an outcome in words", "/api/v1/outcomes", [{"metric": "c", "value": "many", "unit": "u"}]),
    ("a metric with markup", "/api/v1/outcomes", [{"metric": "<b>", "value": 1, "unit": "u"}]),
    ("a unit of megabytes", "/api/v1/outcomes", [{"metric": "c", "value": 1, "unit": "u" * 3_000_000}]),
    ("a hundred thousand outcomes", "/api/v1/outcomes", [{"metric": "c", "value": 1, "unit": "u"}] * 100_000),
]  # fmt: skip


@pytest.mark.parametrize(("what", "path", "body"), BODIES, ids=[what for what, _, _ in BODIES])
def test_a_body_that_makes_no_sense_changes_nothing(client: TestClient, what: str, path: str, body: Any) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    method = "PUT" if path.endswith("/default") else "POST"
    answer = client.request(method, path, content=content, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500, answer.text[:500]
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["detail"]
    assert len(answer.content) < 10_000


HEADERS: dict[str, dict[str, str]] = {
    "an idempotency key of kilobytes": {"Idempotency-Key": "k" * 10_000},
    "a precondition that is none": {"If-Match": "not quoted"},
    "a range that is none": {"Range": "bytes=99999999999999999999-"},
    "a thousand ranges": {"Range": "bytes=" + ",".join("0-0" for _ in range(1000))},
    "a last event that is none": {"Last-Event-ID": "x" * 1000},
    "a request id with markup": {"X-Request-Id": "<script>"},
    "a host of another": {"Host": "evil.example"},
    "an address that forwards": {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "evil.example"},
    "an accept that is none": {"Accept": "x" * 5000},
}


@pytest.mark.parametrize("what", HEADERS)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/api/v1/models/linear"),
        ("GET", "/api/v1/models/linear/variants/original/artifact"),
        ("GET", "/api/v1/models/linear/variants/original/report"),
        ("GET", "/v2/models/linear"),
        ("POST", "/api/v1/jobs"),
    ],
)
def test_a_header_that_makes_no_sense_is_no_servers_error(
    client: TestClient, what: str, method: str, path: str
) -> None:
    answer = client.request(method, path, headers=HEADERS[what], content=b"{}")
    assert answer.status_code < 500
    assert "evil.example" not in answer.text
    assert "<script>" not in answer.headers.get("X-Request-Id", "")
