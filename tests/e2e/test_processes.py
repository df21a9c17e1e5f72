"""A gateway of several processes, and how one ends: by real processes, real signals and real connections."""

import http.client
import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests import graphs
from tests.e2e.service import Process, Service, eventually
from tests.e2e.shared import Shared
from tests.servers import PostgreSQL

WORKERS = 2


@contextmanager
def running_several(folder: Path, database: str) -> Iterator[Service]:
    environment = {"OCTET_DATABASE_URL": database, "OCTET_GATEWAY_WORKERS": str(WORKERS)}
    service = Service(folder / "home", environment, apart=True)
    try:
        service.migrate()
        service.start("gateway")
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, postgresql_server: PostgreSQL) -> Iterator[Shared[Service]]:
    def run() -> AbstractContextManager[Service]:
        return running_several(tmp_path_factory.mktemp("several"), postgresql_server.database())

    shared = Shared(run, Service.clear)
    yield shared
    shared.close()


@pytest.fixture
def several(shared: Shared[Service]) -> Iterator[Service]:
    """A gateway of two processes on PostgreSQL, with the model `linear`."""
    with shared.lend() as service:
        eventually(lambda: len(gateways(service)) == WORKERS, what="all processes")
        service.upload_model(graphs.linear_classifier().SerializeToString(), name="linear")
        yield service


def gateways(service: Service) -> list[psutil.Process]:
    """The processes that listen, youngest last."""
    family = service.processes["gateway"].family()[1:]
    return [process for process in family if any(c.status == psutil.CONN_LISTEN for c in connections(process))]


def connections(process: psutil.Process) -> list[Any]:
    try:
        return [each for each in process.net_connections("inet") if each.laddr]
    except psutil.NoSuchProcess:
        return []


class Client:
    """One connection that stays open."""

    def __init__(self, service: Service) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
        self._http.connect()

    @property
    def port(self) -> int:
        port: int = self._http.sock.getsockname()[1]
        return port

    def ask(self, method: str, path: str, message: dict[str, Any] | None = None) -> tuple[int, Any, str | None]:
        """Status, body and the header `Connection`."""
        self._http.request(method, path, None if message is None else json.dumps(message))
        answer = self._http.getresponse()
        raw = answer.read()
        return answer.status, json.loads(raw) if raw else None, answer.headers["Connection"]

    def infer(self, model: str = "linear", **inputs: Any) -> int:
        arrays = {name: np.asarray(value) for name, value in (inputs or {"x": np.ones((1, 16), np.float32)}).items()}
        tensors = [
            {
                "name": name,
                "shape": list(array.shape),
                "datatype": {"f": "FP32", "i": "INT64"}[array.dtype.kind],
                "data": array.ravel().tolist(),
            }
            for name, array in arrays.items()
        ]
        return self.ask("POST", f"/v2/models/{model}/infer", {"inputs": tensors})[0]

    def close(self) -> None:
        self._http.close()


def one_for_each_process(service: Service) -> list[Client]:
    """A connection to each process."""
    clients: dict[int, Client] = {}

    def all_have_one() -> bool:
        client = Client(service)
        client.ask("GET", "/v2/health/live")
        there = gateways(service)
        for process in there:
            if any(each.raddr and each.raddr.port == client.port for each in connections(process)):
                clients.setdefault(process.pid, client)
        # A new process takes seconds to start, and connections that rest for as long are closed.
        for each in clients.values():
            each.ask("GET", "/v2/health/live")
        if client not in clients.values():
            client.close()
        return clients.keys() == {process.pid for process in there}

    eventually(all_have_one, what="a connection to each process")
    return list(clients.values())


def test_a_change_through_one_process_is_soon_seen_by_all(several: Service) -> None:
    clients = one_for_each_process(several)
    first = clients[0]

    def all_answer(status: int) -> bool:
        return {client.infer() for client in clients} == {status}

    assert all_answer(200)
    for action, expected in (("unload", 503), ("load", 200)):
        assert first.ask("POST", f"/v2/repository/models/linear/{action}")[0] == 200
        eventually(lambda expected=expected: all_answer(expected), what=f"{expected} from all")  # type: ignore[misc]
    assert first.ask("DELETE", "/api/v1/models/linear")[0] == 204
    eventually(lambda: all_answer(404), what="404 from all")
    eventually(lambda: figure(several, "octet_loaded_bytes") is None, what="memory given back by all")


def figure(service: Service, name: str) -> float | None:
    """The first sample of `name` in /metrics."""
    for line in service.http.get("/metrics").text.splitlines():
        if line.startswith(name):
            return float(line.rpartition(" ")[2])
    return None


def test_whichever_process_is_asked_tells_of_all(several: Service) -> None:
    # Of another name than other tests ask for, whose requests count too.
    several.upload_model(graphs.linear_classifier(seed=1).SerializeToString(), name="counted")
    clients = one_for_each_process(several)
    for client in clients:
        assert client.infer("counted") == 200
    total = len(clients)
    for client in clients:
        (tally,) = client.ask("GET", "/v2/models/counted/stats")[1]["model_stats"]
        assert tally["inference_count"] == tally["inference_stats"]["success"]["count"] == total
        assert tally["memory_usage"][0]["byte_size"] > 0
    assert figure(several, 'octet_inference_requests_total{model="counted"') == total
    # One that is late on a busy machine is not counted.
    eventually(lambda: figure(several, "octet_gateway_processes") == WORKERS, what="the figures of all processes")


def test_a_killed_process_is_replaced_and_its_requests_go_to_the_others(several: Service) -> None:
    clients = one_for_each_process(several)
    victim = gateways(several)[0]
    lost = {each.raddr.port for each in connections(victim) if each.raddr}
    victim.kill()
    for client in clients:
        if client.port not in lost:
            assert client.infer() == 200
    eventually(lambda: len(gateways(several)) == WORKERS and victim.pid not in _pids(several), what="a new process")
    for client in one_for_each_process(several):
        assert client.infer() == 200
    # One that is late on a busy machine is not counted.
    eventually(lambda: figure(several, "octet_gateway_processes") == WORKERS, what="the figures of all processes")


def _pids(service: Service) -> set[int]:
    return {process.pid for process in gateways(service)}


def test_no_process_stays_when_the_one_that_started_them_is_killed(several: Service) -> None:
    children = gateways(several)
    several.processes["gateway"].popen.kill()
    eventually(lambda: not any(_lives(child) for child in children), what="the end of all processes")
    several.start("gateway")


def _lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


class Caller(threading.Thread):
    """Asks as fast as it can on one connection, until it is told to leave: it would go to another instance then."""

    def __init__(self, service: Service) -> None:
        super().__init__(daemon=True)
        self._client = Client(service)
        self.answered = 0
        self.told_to_leave = False
        self.failed: list[object] = []

    def run(self) -> None:
        message = {"inputs": [{"name": "x", "shape": [1, 16], "datatype": "FP32", "data": [1.0] * 16}]}
        while not self.told_to_leave and not self.failed:
            try:
                status, _, connection = self._client.ask("POST", "/v2/models/linear/infer", message)
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(error)
                return
            if status != 200:
                self.failed.append(status)
            self.answered += 1
            self.told_to_leave = connection == "close"


@pytest.fixture
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    """A gateway of one process, and of several, on SQLite."""
    service = Service(
        tmp_path / "home", {"OCTET_GATEWAY_WORKERS": str(request.param), "OCTET_DRAIN_SECONDS": "3"}, apart=True
    )
    service.migrate()
    service.start("gateway")
    service.upload_model(graphs.linear_classifier().SerializeToString(), name="linear")
    service.upload_model(graphs.counting_down().SerializeToString(), name="countdown")
    yield service
    service.stop()


@pytest.mark.parametrize("service", [pytest.param(1, marks=pytest.mark.slow), WORKERS], indirect=True)
def test_a_gateway_that_ends_under_load_fails_no_request(service: Service) -> None:
    callers = [Caller(service) for _ in range(8)]
    for caller in callers:
        caller.start()
    eventually(lambda: all(caller.answered > 20 for caller in callers), what="answers for all")
    gateway = service.processes["gateway"].popen
    gateway.send_signal(signal.SIGTERM)
    for caller in callers:
        caller.join(timeout=30)
    assert [caller.failed for caller in callers] == [[]] * len(callers)
    assert all(caller.told_to_leave for caller in callers)
    gateway.wait(timeout=30)


@pytest.mark.parametrize("service", [1, pytest.param(WORKERS, marks=pytest.mark.slow)], indirect=True)
def test_a_gateway_that_ends_is_not_ready_and_ends_what_it_has_begun(service: Service) -> None:
    turns = _turns_of_seconds(service, 5.0)
    statuses: list[int] = []
    slow = threading.Thread(target=lambda: statuses.append(_count_down(service, turns)))
    watching = one_for_each_process(service)
    slow.start()
    time.sleep(0.5)
    service.processes["gateway"].popen.send_signal(signal.SIGTERM)
    for client in watching:
        eventually(lambda client=client: client.ask("GET", "/v2/health/ready")[0] == 503, what="its saying so")  # type: ignore[misc]
    assert not statuses
    slow.join()
    assert statuses == [200]
    service.processes["gateway"].popen.wait(timeout=30)


def _count_down(service: Service, turns: int) -> int:
    client = Client(service)
    try:
        return client.infer("countdown", turns=np.int64(turns), x=np.ones(256, np.float32))
    finally:
        client.close()


def _turns_of_seconds(service: Service, seconds: float) -> int:
    """How many turns take about so long on this machine."""
    tried = 20_000
    assert _count_down(service, 1) == 200
    begun = time.monotonic()
    assert _count_down(service, tried) == 200
    return int(tried * seconds / (time.monotonic() - begun))


def test_processes_that_cannot_start_end_the_gateway(tmp_path: Path) -> None:
    """The registry was never migrated."""
    environment = {"OCTET_HOME": str(tmp_path / "home"), "OCTET_GATEWAY_WORKERS": str(WORKERS)}
    gateway = Process(["gateway", "--port", "0"], environment, tmp_path / "gateway.log")
    try:
        assert gateway.popen.wait(timeout=60) is not None
        assert "octet migrate" in gateway.log.read_text()
    finally:
        gateway.kill_all()
