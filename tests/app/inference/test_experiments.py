"""Requests that a running experiment answers: the whole gateway but for its sockets."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fastapi.testclient import TestClient
from httpx import Response

from app.blobs import open_store
from app.experiments.assignment import Arm, Split
from app.experiments.shadow import Shadowed, Shadows
from app.registry import Database
from app.settings import Settings
from tests import graphs
from tests.app.conftest import upload_model
from tests.app.live_experiment import add_variant
from tests.app.serving.artifacts import kept_model

pytestmark = pytest.mark.e2e

URL = "/api/v1/models/linear/experiments"
SPLIT = Split("a seed", (Arm("original", 50, control=True), Arm("int8", 50)), 0.8)
UNITS = [f"user-{number}" for number in range(60)]


class House:
    """A gateway with the model `linear`, and variants of it that a test makes."""

    def __init__(self, client: TestClient, settings: Settings, folder: Path) -> None:
        self.client = client
        self.database = Database(settings.registry_url)
        self._blobs = open_store(settings)
        self._folder = folder
        upload_model(client)

    def add(self, label: str, model: onnx.ModelProto) -> None:
        add_variant(self.database, label, digest=kept_model(self._blobs, model, self._folder).digest)

    def start(self, **changes: Any) -> str:
        """The address of an experiment that runs."""
        arms = [{"variant": arm.variant, "weight": arm.weight, "control": arm.control} for arm in SPLIT.arms]
        wanted = {
            "name": "live",
            "seed": SPLIT.seed,
            "arms": arms,
            "coverage": SPLIT.coverage,
            "unit": {"from": ["header:X-Unit-Id", "param:unit_id"], "on_missing": "control"},
        }
        created = self.client.post(URL, json=wanted | changes)
        assert created.status_code == 201, created.text
        address: str = created.headers["Location"]
        assert self.client.post(f"{address}/start").status_code == 200
        return address

    def ask(self, unit: str | None = None, *, path: str = "linear", **headers: str) -> Response:
        tensor = {"name": "x", "shape": [1, 16], "datatype": "FP32", "data": [0.5] * 16}
        parameters = {} if unit is None else {"unit_id": unit}
        body = {"inputs": [tensor], "parameters": parameters}
        return self.client.post(f"/v2/models/{path}/infer", json=body, headers=headers)

    def results(self, address: str, ready: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The results once they are as expected: counts are written within a second."""
        deadline = time.monotonic() + 30
        while True:
            results: dict[str, Any] = self.client.get(address).json()["results"]
            if ready(results) or time.monotonic() > deadline:
                return results
            time.sleep(0.05)


@pytest.fixture
def house(client: TestClient, settings: Settings, tmp_path: Path) -> Iterator[House]:
    house = House(client, settings, tmp_path)
    house.add("int8", graphs.linear_classifier(seed=1))
    yield house
    house.database.close()


def requests_of(results: dict[str, Any]) -> dict[str, int]:
    return {arm["variant"]: arm["requests"] for arm in results["arms"]}


def test_each_unit_gets_its_arm_and_hears_of_it(house: House) -> None:
    address = house.start()
    experiment = address.rsplit("/", 1)[1]
    for unit in UNITS:
        for answer in (house.ask(unit), house.ask(None, **{"X-Unit-Id": unit})):
            expected = SPLIT.arm(unit)
            assert answer.headers["X-Model-Variant"] == (expected or "original")
            assert answer.headers["X-Experiment"] == experiment
            assert answer.headers["X-Assignment-Reason"] == ("uncovered" if expected is None else "hash")
            told = answer.json()["parameters"]
            assert told["variant"] == answer.headers["X-Model-Variant"]
            assert told["experiment"] == experiment
            assert told["assignment_reason"] == answer.headers["X-Assignment-Reason"]
    expected_counts = Counter(variant for unit in UNITS if (variant := SPLIT.arm(unit)))
    results = house.results(address, lambda seen: sum(requests_of(seen).values()) == 2 * expected_counts.total())
    assert requests_of(results) == {variant: 2 * count for variant, count in expected_counts.items()}
    assert {arm["variant"]: arm["units"] for arm in results["arms"]} == expected_counts


def test_a_variant_that_is_named_is_forced_and_not_counted(house: House) -> None:
    address = house.start()
    for path in ("linear@int8", "linear/versions/int8"):
        answer = house.ask(UNITS[0], path=path)
        assert (answer.headers["X-Model-Variant"], answer.headers["X-Assignment-Reason"]) == ("int8", "forced")
    house.ask(next(unit for unit in UNITS if SPLIT.arm(unit)))
    assert sum(requests_of(house.results(address, lambda seen: sum(requests_of(seen).values()) > 0)).values()) == 1


def test_who_names_no_unit_is_answered_by_the_control_uncounted(house: House) -> None:
    house.start()
    answer = house.ask()
    assert (answer.headers["X-Model-Variant"], answer.headers["X-Assignment-Reason"]) == ("original", "fallback")


def test_an_arm_that_fails_is_counted_and_its_users_get_the_controls_answer(house: House) -> None:
    house.add("broken", graphs.failing_classifier())
    arms = [{"variant": "original", "weight": 50, "control": True}, {"variant": "broken", "weight": 50}]
    address = house.start(arms=arms, coverage=1.0)
    answers = [house.ask(unit) for unit in UNITS]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.headers["X-Model-Variant"] for answer in answers} == {"original"}
    assert {answer.headers["X-Assignment-Reason"] for answer in answers} == {"hash", "fallback"}
    results = house.results(address, lambda seen: sum(requests_of(seen).values()) == len(UNITS))
    errors = {arm["variant"]: arm["errors"] for arm in results["arms"]}
    assert errors == {"original": 0, "broken": requests_of(results)["broken"]}
    assert errors["broken"] > 0


def test_what_is_wrong_with_a_request_is_no_fault_of_an_arm(house: House) -> None:
    address = house.start(coverage=1.0)
    bad = {"inputs": [{"name": "x", "shape": [1, 15], "datatype": "FP32", "data": [0.5] * 15}]}
    for unit in UNITS[:10]:
        refused = house.client.post("/v2/models/linear/infer", json=bad, headers={"X-Unit-Id": unit})
        assert refused.status_code == 400
    house.ask(UNITS[0])
    results = house.results(address, lambda seen: sum(requests_of(seen).values()) > 0)
    assert sum(requests_of(results).values()) == 1
    assert all(arm["errors"] == 0 for arm in results["arms"])


def test_an_arm_that_was_unloaded_is_answered_for_by_the_default(house: House) -> None:
    house.start(coverage=1.0)
    assert house.client.post("/v2/repository/models/linear@int8/unload").status_code == 200
    unit = next(unit for unit in UNITS if SPLIT.arm(unit) == "int8")
    answer = house.ask(unit)
    assert (answer.status_code, answer.headers["X-Model-Variant"]) == (200, "original")
    assert answer.headers["X-Assignment-Reason"] == "fallback"


def test_a_shadow_answers_what_the_control_did_and_is_compared(house: House) -> None:
    house.add("twin", graphs.linear_classifier())
    shadow = [{"variant": "twin", "sample": 1.0}, {"variant": "int8", "sample": 1.0}]
    address = house.start(shadow=shadow)
    for unit in UNITS[:20]:
        house.ask(unit)

    def pairs(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
        return {shadow["variant"]: shadow for shadow in results["shadows"]}

    found = pairs(house.results(address, lambda seen: all(each["pairs"] for each in pairs(seen).values())))
    assert found["twin"]["max_abs_difference"] == 0
    assert found["int8"]["max_abs_difference"] > 0


def test_a_label_says_who_of_a_pair_was_right(house: House) -> None:
    house.add("twin", graphs.linear_classifier())
    shadow = [{"variant": "twin", "sample": 1.0}, {"variant": "int8", "sample": 1.0}]
    # Units that are not covered, too: the default answers them, and shadows. Not so many that shadows would be dropped.
    covered, others = ([unit for unit in UNITS if SPLIT.arm(unit) == arm] for arm in ("original", None))
    units = covered[:15] + others[:5]
    address = house.start(shadow=shadow)
    answers = [house.ask(unit, **{"X-Request-Id": f"request-{unit}"}) for unit in units]
    top_1 = {int(np.argmax(answer.json()["outputs"][0]["data"])) for answer in answers}
    assert len(top_1) == 1
    label = {"metric": "label", "value": top_1.pop()}
    # Labels of half of them come twice. Some pairs are not known yet.
    for reported in (units[::2], units):
        reports = [label | {"request_id": f"request-{unit}"} for unit in reported]
        assert house.client.post("/api/v1/outcomes", json=reports).is_success

    def right(results: dict[str, Any]) -> dict[str, tuple[int, int, int]]:
        found = {each["variant"]: each["right_answers"] for each in results["shadows"] if each["right_answers"]}
        return {name: (each["labelled"], each["control_only"], each["variant_only"]) for name, each in found.items()}

    expected = {"twin": (len(units), 0, 0), "int8": (len(units), len(units), 0)}
    assert right(house.results(address, lambda seen: right(seen) == expected)) == expected
    assert "label" not in house.client.get(address).json()["results"]["arms"][0]["outcomes"]


def test_shadows_that_are_overloaded_are_dropped_and_hold_up_nobody(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    compute = Shadows._compute

    def stuck(self: Shadows, shadowed: Shadowed) -> None:
        begun.set()
        go_on.wait()
        compute(self, shadowed)

    monkeypatch.setattr(Shadows, "_compute", stuck)
    address = house.start(coverage=1.0, shadow=[{"variant": "int8", "sample": 1.0}])
    unit = next(unit for unit in UNITS if SPLIT.arm(unit) == "original")
    # No shadow ends before all users have their answers: one that waited for its turn would wait for ever.
    answers = [house.ask(unit)]
    begun.wait()
    answers += [house.ask(unit) for _ in range(99)]
    assert {answer.status_code for answer in answers} == {200}
    go_on.set()
    # One was being computed, and 64 waited; the other 35 were dropped.

    def counted(results: dict[str, Any]) -> tuple[int, int]:
        return results["shadows"][0]["pairs"], requests_of(results)["original"]

    assert counted(house.results(address, lambda seen: counted(seen) == (65, 100))) == (65, 100)


def test_an_outcome_that_names_the_request_counts_for_the_arm_that_answered(house: House) -> None:
    address = house.start(coverage=1.0)
    answered = {}
    for unit in UNITS:
        answer = house.ask(unit, **{"X-Request-Id": f"request-{unit}"})
        assert answer.headers["X-Request-Id"] == f"request-{unit}"
        answered[unit] = answer.headers["X-Model-Variant"]
    house.results(address, lambda seen: sum(requests_of(seen).values()) == len(UNITS))
    outcomes = [
        {"request_id": f"request-{unit}", "metric": "clicked", "value": float(answered[unit] == "int8")}
        for unit in UNITS
    ]
    assert house.client.post("/api/v1/outcomes", json=outcomes).status_code in {200, 202}
    results = house.client.get(address).json()["results"]
    means = {arm["variant"]: arm["outcomes"]["clicked"]["mean"]["estimate"] for arm in results["arms"]}
    assert means == {"original": 0.0, "int8": 1.0}


def test_without_an_experiment_nothing_is_told_of_one(house: House) -> None:
    answer = house.ask(UNITS[0])
    assert answer.headers["X-Model-Variant"] == "original"
    assert "X-Experiment" not in answer.headers
    assert set(answer.json()["parameters"]) == {"variant"}


def test_once_it_ended_the_default_answers_all(house: House) -> None:
    address = house.start(coverage=1.0)
    assert house.client.post(f"{address}/promote", json={"variant": "int8"}).status_code == 200
    answers = [house.ask(unit) for unit in UNITS[:10]]
    assert {answer.headers["X-Model-Variant"] for answer in answers} == {"int8"}
    assert all("X-Experiment" not in answer.headers for answer in answers)
