"""Experiments over real gateways: the same arm everywhere and for ever, nothing lost, nobody who waits or fails."""

import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from app.blobs import open_store
from app.registry import Database
from app.settings import Settings
from tests import graphs
from tests.app.live_experiment import add_variant
from tests.app.serving.artifacts import kept_model
from tests.e2e.service import Process, Service, eventually
from tests.servers import free_port

ARMS = [{"variant": "original", "weight": 50, "control": True}, {"variant": "dynamic", "weight": 50}]
WANTED = {"name": "live", "seed": "a seed", "arms": ARMS, "unit": {"from": ["param:unit_id"], "on_missing": "control"}}
UNITS = [f"user-{number}" for number in range(40)]


@pytest.fixture
def service(production: Service) -> Service:
    """A gateway and a worker on PostgreSQL and Redis, with the model `linear` and its variant `dynamic`."""
    service = production
    service.upload_model(graphs.linear_classifier(features=64, classes=64).SerializeToString(), name="linear")
    made = service.finished(service.submit(model="linear", method="dynamic", options={"max_accuracy_drop": 1.0}))
    assert made["state"] == "succeeded", made
    return service


@pytest.fixture
def second(service: Service) -> Iterator[str]:
    """The address of another gateway on the same registry."""
    port = free_port()
    gateway = Process(["gateway", "--port", str(port)], service.environment, service.home.parent / "second.log")
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        try:
            return httpx.get(f"{url}/v2/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    eventually(ready, what="the second gateway")
    yield url
    gateway.kill_all()


def start(service: Service, **changes: Any) -> str:
    created = service.http.post("/api/v1/models/linear/experiments", json=WANTED | changes)
    assert created.status_code == 201, created.text
    address: str = created.headers["Location"]
    assert service.http.post(f"{address}/start").status_code == 200
    return address


def asked(http: httpx.Client, unit: str) -> httpx.Response:
    tensor = {"name": "x", "shape": [1, 64], "datatype": "FP32", "data": [0.5] * 64}
    return http.post("/v2/models/linear/infer", json={"inputs": [tensor], "parameters": {"unit_id": unit}})


def arms(http: httpx.Client) -> list[str]:
    answers = [asked(http, unit) for unit in UNITS]
    assert {answer.status_code for answer in answers} == {200}
    return [answer.headers["X-Model-Variant"] for answer in answers]


def results(service: Service, address: str) -> dict[str, Any]:
    seen: dict[str, Any] = service.http.get(address).json()["results"]
    return seen


def requests(service: Service, address: str) -> int:
    return sum(arm["requests"] for arm in results(service, address)["arms"])


def test_a_unit_has_the_same_arm_at_every_gateway_and_after_a_restart(service: Service, second: str) -> None:
    address = start(service)
    first = arms(service.http)
    assert set(first) == {"original", "dynamic"}
    with httpx.Client(base_url=second) as other:
        # What one gateway started, another sees when it looks next.
        eventually(lambda: "X-Experiment" in asked(other, UNITS[0]).headers, what="its being seen")
        assert arms(other) == first
    told = [service.http.get(f"{address}/assign", params={"unit": unit}).json()["variant"] for unit in UNITS]
    assert told == first
    service.processes["gateway"].end()
    service.start("gateway")
    assert arms(service.http) == first
    eventually(lambda: requests(service, address) == 1 + 3 * len(UNITS), what="the sum over all")
    units = {arm["variant"]: arm["units"] for arm in results(service, address)["arms"]}
    assert units == {variant: first.count(variant) for variant in units}


def test_a_killed_gateway_loses_a_second_of_counts_at_most_and_no_outcome(service: Service) -> None:
    address = start(service)
    arms(service.http)
    eventually(lambda: requests(service, address) == len(UNITS), what="their being kept")
    outcomes = [{"unit": unit, "metric": "clicked", "value": 1.0} for unit in UNITS]
    assert service.http.post("/api/v1/outcomes", json=outcomes).is_success
    service.processes["gateway"].kill_all()
    service.start("gateway")
    assert requests(service, address) == len(UNITS)
    counts = [arm["outcomes"]["clicked"]["count"] for arm in results(service, address)["arms"]]
    assert sum(counts) == len(UNITS)


class Caller(threading.Thread):
    """Asks for one unit after another until told to stop."""

    def __init__(self, url: str, number: int) -> None:
        super().__init__(daemon=True)
        self._http = httpx.Client(base_url=url, timeout=60)
        self._number = number
        self.stopping = threading.Event()
        self.variants: list[str] = []
        self.failures: list[str] = []

    def run(self) -> None:
        turn = 0
        while not self.stopping.is_set():
            turn += 1
            answer = asked(self._http, f"caller-{self._number}-{turn}")
            if answer.status_code != 200:
                self.failures.append(answer.text)
            else:
                self.variants.append(answer.headers["X-Model-Variant"])
        self._http.close()


def test_an_arm_that_fails_is_rolled_back_and_no_user_sees_it_fail(service: Service) -> None:
    add_broken(service)
    arms = [{"variant": "original", "weight": 50, "control": True}, {"variant": "broken", "weight": 50}]
    address = start(service, arms=arms, guardrails=[{"metric": "error_rate", "margin_abs": 0.01}])
    callers = [Caller(service.url, number) for number in range(4)]
    for caller in callers:
        caller.start()
    eventually(
        lambda: service.http.get(address).json()["state"] == "rolled_back", seconds=60, what="the arm's rollback"
    )
    for caller in callers:
        caller.stopping.set()
        caller.join()
    assert [failure for caller in callers for failure in caller.failures] == []
    timeline = service.http.get(f"{address}/timeline").json()
    (rolled_back,) = (each for each in timeline if each["kind"] == "rolled_back")
    assert "'error_rate'" in rolled_back["detail"]["reason"]


def add_broken(service: Service) -> None:
    """Puts a variant that fails whatever it is asked into the registry, behind the API's back."""
    model = graphs.failing_classifier(features=64, classes=64)
    artifact = kept_model(open_store(Settings(home=service.home)), model, service.home)
    database = Database(service.environment["OCTET_DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://"))
    add_variant(database, "broken", digest=artifact.digest)
    database.close()


def test_promotion_under_load_fails_no_request(service: Service) -> None:
    address = start(service)
    callers = [Caller(service.url, number) for number in range(8)]
    for caller in callers:
        caller.start()
    eventually(lambda: all(len(caller.variants) > 30 for caller in callers), what="traffic")
    promoted = service.http.post(f"{address}/promote", json={"variant": "dynamic"})
    assert promoted.status_code == 200, promoted.text
    since = [len(caller.variants) for caller in callers]
    pairs = list(zip(callers, since, strict=True))
    eventually(lambda: all(len(caller.variants) > count + 30 for caller, count in pairs), what="more traffic")
    for caller in callers:
        caller.stopping.set()
        caller.join()
    assert [failure for caller in callers for failure in caller.failures] == []
    assert all(set(caller.variants[count + 2 :]) == {"dynamic"} for caller, count in pairs)
    assert service.http.get("/api/v1/models/linear").json()["default_variant"] == "dynamic"
