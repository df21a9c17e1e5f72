"""Keys as operators and clients use them: real commands, gateways of several processes, unmodified clients."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from playwright.sync_api import Browser, expect
from tritonclient.utils import InferenceServerException

from tests import graphs
from tests.e2e.service import Process, Service, eventually
from tests.e2e.shared import running_service
from tests.servers import free_port

ROW = np.zeros((1, 16), np.float32)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Two gateway processes on one port, and gRPC, with the model `linear`; without keys yet."""
    chosen = {"OCTET_GRPC_PORT": str(free_port()), "OCTET_GATEWAY_WORKERS": "2", "OCTET_LOG_REQUESTS": "true"}
    service = Service(tmp_path / "home", chosen)
    service.start()
    try:
        service.upload_model(graphs.linear_classifier().SerializeToString(), name="linear")
        yield service
    finally:
        service.stop()


def octet(service: Service, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), **service.environment, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _within_a_second(check: Callable[[], bool]) -> None:
    """Half a second until a gateway looks, and what a busy machine adds; not one answer may fall back afterwards."""
    # Each process looks in its own time, and which one is asked is chance: both have seen it once 20 in a row have.
    eventually(lambda: all(check() for _ in range(20)), seconds=10, what="the change")
    assert all(check() for _ in range(20))


def _status(service: Service, key: str | None = None, path: str = "/api/v1/models") -> int:
    # A connection of its own: each may reach the other process.
    headers = {"X-API-Key": key} if key is not None else {}
    return httpx.get(service.url + path, headers=headers, timeout=30, verify=False).status_code


def test_keys_made_and_revoked_on_the_machine_are_seen_by_all_gateways(service: Service) -> None:
    assert _status(service) == 200
    admin = octet(service, "keys", "create", "me", "--scope", "admin")
    _within_a_second(lambda: _status(service) == 401)
    assert [_status(service, admin) for _ in range(10)] == [200] * 10
    made = httpx.post(
        service.url + "/api/v1/keys", json={"name": "app", "scope": "infer"}, headers={"X-API-Key": admin}
    ).json()
    _within_a_second(lambda: _status(service, made["key"], "/v2") == 200)
    _clients_are_let_in(service, made["key"])
    _commands_are_let_in(service, admin)

    octet(service, "keys", "revoke", made["id"])
    _within_a_second(lambda: _status(service, made["key"], "/v2") == 401)
    with pytest.raises(InferenceServerException, match="revoked or has expired"):
        _infer_grpc(service, made["key"])

    log = service.processes["serve"].log.read_text()
    assert "No key was made yet" in log
    assert "/v2/models/linear/infer" in log
    for secret in (admin.split("_")[2], made["key"].split("_")[2]):
        assert secret not in log
        assert all(secret.encode() not in file.read_bytes() for file in service.home.rglob("*") if file.is_file())
    assert {"cli", "me", "local"} <= {word for line in octet(service, "audit").splitlines() for word in line.split()}


def _clients_are_let_in(service: Service, key: str) -> None:
    rows = triton_http.InferInput("x", [1, 16], "FP32")
    rows.set_data_from_numpy(ROW)
    with triton_http.InferenceServerClient(service.url.removeprefix("http://")) as client:
        for headers in ({"Authorization": f"Bearer {key}"}, {"X-API-Key": key}):
            assert client.infer("linear", [rows], headers=headers).as_numpy("logits") is not None
        with pytest.raises(InferenceServerException, match="needs a key"):
            client.infer("linear", [rows])
        assert client.is_server_live()
        with pytest.raises(InferenceServerException, match="scope 'write'"):
            client.unload_model("linear", headers={"X-API-Key": key})
    assert _infer_grpc(service, key) is not None
    with pytest.raises(InferenceServerException, match="needs a key"):
        _infer_grpc(service, None)


def _infer_grpc(service: Service, key: str | None) -> object:
    rows = triton_grpc.InferInput("x", [1, 16], "FP32")
    rows.set_data_from_numpy(ROW)
    headers = {"authorization": f"Bearer {key}"} if key is not None else None
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{service.grpc_port}") as client:
        return client.infer("linear", [rows], headers=headers).as_numpy("logits")


def _commands_are_let_in(service: Service, key: str) -> None:
    assert "linear" in octet(service, "compare", "linear", OCTET_URL=service.url, OCTET_API_KEY=key)
    assert "linear" in octet(service, "--api-key", key, "compare", "linear", "--url", service.url)


def test_a_service_that_others_would_reach_says_what_it_needs_and_starts_with_it(tmp_path: Path) -> None:
    service = Service(tmp_path / "home", {"OCTET_HOST": "0.0.0.0"})
    command = ["serve", "--host", "0.0.0.0", "--port", str(service.port)]
    refused = Process(command, service.environment, tmp_path / "refused.log")
    assert refused.popen.wait(timeout=60) == 1
    said = (tmp_path / "refused.log").read_text()
    assert "octet keys create" in said
    assert "Traceback" not in said
    octet(service, "keys", "create", "me", "--scope", "admin")
    running = Process(command, service.environment, tmp_path / "running.log")
    try:
        eventually(lambda: _answers(service), what="an answer")
        assert _status(service) == 401
    finally:
        running.kill_all()


def _answers(service: Service) -> bool:
    try:
        return _status(service, path="/v2/health/ready") == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with keys; `service.http` has one of scope `admin`."""
    with running_service(tmp_path_factory.mktemp("locked")) as service:
        service.http.headers["X-API-Key"] = octet(service, "keys", "create", "root", "--scope", "admin")
        _within_a_second(lambda: _status(service) == 401)
        yield service


def test_a_browser_signs_in_works_and_signs_out(chromium: Browser, locked: Service, model_bytes: bytes) -> None:
    locked.upload_model(model_bytes, name="from-before")
    key = octet(locked, "keys", "create", "kim", "--scope", "write")
    _within_a_second(lambda: _status(locked, key) == 200)
    with chromium.new_context() as context:
        page = context.new_page()
        complaints: list[str] = []
        page.on("console", lambda said: complaints.append(said.text) if "Security Policy" in said.text else None)
        page.goto(locked.url)
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        page.get_by_label("Key").fill(key[:-1] + "x")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text("no key of this service")
        page.get_by_label("Key").fill(key)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_text("from-before").first).to_be_visible()
        # From a page that may call: the one before needs no scripts, and allows none.
        page.goto(f"{locked.url}/docs")
        call = "async ([path, method]) => (await fetch(path, {method})).status"
        assert page.evaluate(call, ["/api/v1/models", "GET"]) == 200
        assert page.evaluate(call, ["/api/v1/models/from-before", "DELETE"]) == 204
        assert page.evaluate("document.cookie") == ""
        page.goto(f"{locked.url}/login")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        page.goto(f"{locked.url}/docs")
        assert page.evaluate(call, ["/api/v1/models", "GET"]) == 401
        assert complaints == []


def test_the_example_of_an_experiment_shows_the_key_that_commands_show(locked: Service) -> None:
    examples = Path(__file__).parents[2] / "examples"
    locked.upload_model((examples / "resnet20.onnx").read_bytes(), name="resnet20")
    assert locked.finished(locked.submit(model="resnet20", method="fp16"))["state"] == "succeeded"
    key = octet(locked, "keys", "create", "me", "--scope", "write")
    _within_a_second(lambda: _status(locked, key) == 200)
    command = [sys.executable, str(examples / "ab.py"), "--variant", "fp16", "--requests", "20", "--users", "5"]
    command += ["--url", locked.url.removeprefix("http://")]
    environment = {"PATH": "/usr/bin:/bin", "OCTET_API_KEY": key}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "% right" in done.stdout
    asked = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert "OCTET_API_KEY" in asked.stdout
