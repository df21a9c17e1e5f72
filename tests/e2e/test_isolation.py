"""OCTET_ISOLATE: what happens to a model happens to no other, and nothing of the gateway's is lost. Real processes."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import tritonclient.http as triton

from tests import graphs
from tests.e2e.service import Service, eventually
from tests.e2e.shared import Shared

MIB = 1024**2


@contextmanager
def isolating(folder: Path) -> Iterator[Service]:
    made = Service(folder / "home", {"OCTET_ISOLATE": "1"}, apart=True)
    try:
        made.migrate()
        made.start("gateway")
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared[Service]]:
    shared = Shared(lambda: isolating(tmp_path_factory.mktemp("isolating")), Service.clear)
    yield shared
    shared.close()


@pytest.fixture
def service(shared: Shared[Service]) -> Iterator[Service]:
    with shared.lend() as service:
        yield service


def _runners(service: Service) -> set[int]:
    """All that the nursery has forked."""
    nursery = service.processes["gateway"].find("app.isolation.nursery")
    if nursery is None:
        return set()
    nursery = psutil.Process(nursery.pid)
    while "app.isolation.nursery" in " ".join(nursery.parent().cmdline()):
        nursery = nursery.parent()
    return {child.pid for child in nursery.children() if child.status() != psutil.STATUS_ZOMBIE}


def _body(name: str, features: int) -> dict[str, object]:
    data = [0.25] * features
    return {"inputs": [{"name": name, "datatype": "FP32", "shape": [1, features], "data": data}]}


def _quotient(a: int, b: int) -> dict[str, object]:
    return {
        "inputs": [
            {"name": name, "datatype": "INT64", "shape": [1], "data": [value]} for name, value in (("a", a), ("b", b))
        ]
    }


def _upload(service: Service, name: str, **shape: int) -> tuple[str, int]:
    """The name of its input, and its features."""
    proto = graphs.linear_classifier(**shape)
    service.upload_model(proto.SerializeToString(), name=name)
    (spec,) = proto.graph.input
    return spec.name, spec.type.tensor_type.shape.dim[1].dim_value


def test_concurrent_clients_load_unload_and_get_the_memory_back(service: Service) -> None:
    name, features = _upload(service, "small", seed=1)
    _upload(service, "large", features=4096, classes=2048)
    clients = threading.local()
    x = np.random.default_rng(0).standard_normal((4, features)).astype(np.float32)

    def own() -> triton.InferenceServerClient:
        """Each thread's; they cannot be shared."""
        if not hasattr(clients, "client"):
            clients.client = triton.InferenceServerClient(service.url.removeprefix("http://"))
        return clients.client

    def ask(_: int = 0) -> bytes:
        client = own()
        feed = triton.InferInput(name, x.shape, "FP32")
        feed.set_data_from_numpy(x)
        (output,) = client.get_model_metadata("small")["outputs"]
        answer: bytes = client.infer("small", [feed]).as_numpy(output["name"]).tobytes()
        return answer

    client, expected = own(), ask()
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(ask, range(200))) == {expected}
    assert len(_runners(service)) == 1

    before = _runners(service)
    client.load_model("large")
    (large,) = _runners(service) - before
    assert psutil.Process(large).memory_info().rss > 32 * MIB
    client.unload_model("large")
    assert not psutil.pid_exists(large)
    assert set(map(ask, range(3))) == {expected}

    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(ask) for _ in range(100)]
        for _ in range(5):
            client.load_model("large")
            client.unload_model("large")
        assert {each.result(60) for each in asking} == {expected}
    assert len(_runners(service)) == 1


def test_a_model_that_crashes_its_process_disturbs_no_other(service: Service) -> None:
    service.upload_model(graphs.integer_quotient().SerializeToString(), name="bad")
    bodies = {
        "good": _body(*_upload(service, "good", seed=2)),
        "bad": _quotient(6, 2),
        "deadly": _quotient(-(2**63), -1),
    }

    def ask(body: str) -> httpx.Response:
        model = "good" if body == "good" else "bad"
        return service.http.post(f"/v2/models/{model}/infer", json=bodies[body])

    assert ask("good").status_code == 200
    good = _runners(service)
    assert ask("bad").json()["outputs"][0]["data"] == [3]
    expected = ask("good").json()["outputs"]
    over = threading.Event()
    answers: Counter[int] = Counter()

    def keep_asking() -> None:
        with httpx.Client(base_url=service.url, timeout=60) as http:
            while not over.is_set():
                answer = http.post("/v2/models/good/infer", json=bodies["good"])
                answers[answer.status_code] += 1
                if answer.json()["outputs"] != expected:
                    answers[-1] += 1

    askers = [threading.Thread(target=keep_asking) for _ in range(4)]
    for asker in askers:
        asker.start()
    eventually(lambda: answers[200] > 20, what="load")
    crashed = [ask("deadly") for _ in range(3)]
    refused = ask("bad")
    meanwhile = answers[200]
    eventually(lambda: answers[200] > meanwhile + 20, what="load")
    over.set()
    for asker in askers:
        asker.join()
    assert set(answers) == {200}, answers
    for answer in crashed:
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert "'bad'" in answer.json()["error"]
        assert "SIGFPE" in answer.json()["error"]
    assert refused.status_code == 503
    assert "crashed 3 times" in refused.json()["error"]
    assert int(refused.headers["Retry-After"]) <= 10
    assert "'bad'" in refused.json()["error"]
    assert _runners(service) == good
    state = {row["name"]: row for row in service.http.post("/v2/repository/index", json={}).json()}
    assert state["good"]["state"] == "READY"
    assert state["bad"]["state"] == "UNAVAILABLE"
    assert "crashed" in state["bad"]["reason"]
    metrics = service.http.get("/metrics").text
    assert 'octet_model_crashes_total{model="bad"' in metrics
    # It comes back by itself.
    eventually(lambda: ask("bad").status_code == 200, seconds=40, what="the end of the quarantine")


def test_a_gateway_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    with isolating(tmp_path) as service:
        _upload(service, "small")
        service.http.post("/v2/repository/models/small/load").raise_for_status()
        family = [*service.processes["gateway"].family()]
        assert len(family) >= 3
        service.processes["gateway"].popen.kill()
        _, alive = psutil.wait_procs(family, timeout=15)
    assert not [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
