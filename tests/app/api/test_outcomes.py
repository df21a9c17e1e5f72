import json

import pytest
from fastapi.testclient import TestClient

from app.experiments.counts import Counts
from app.registry import Database, experiments, records, retention
from app.registry.records import NewExposure, NewPairedAnswer
from app.registry.tables import now
from tests.app.conftest import Kept
from tests.app.live_experiment import SPLIT, create, id_of, keep_counts


def expose(registry: Database, address: str, request_id: str, unit: str) -> None:
    place = SPLIT.place(unit)
    assert place.variant is not None
    with registry.writing() as session:
        exposure = NewExposure(request_id, place.variant, place.bucket, place.key, now())
        records.add_exposures(session, id_of(address), [exposure])


def test_outcomes_belong_to_the_arm_that_answered(client: TestClient, registry: Database, started: str) -> None:
    counts = keep_counts(registry, id_of(started), 500)
    reports = [{"unit": f"user-{number}", "metric": "clicked", "value": number % 2} for number in range(500)]
    assert client.post("/api/v1/outcomes", json=reports).json() == {"received": 500, "new": 500}
    assert client.post("/api/v1/outcomes", json=reports).json() == {"received": 500, "new": 0}
    early = [{"request_id": "r1", "metric": "revenue", "value": 7.5}]
    assert client.post("/api/v1/outcomes", json=early).json()["new"] == 1
    control, arm = client.get(started).json()["results"]["arms"]
    assert control["outcomes"]["clicked"]["count"] == counts.unit_count("original")
    assert arm["outcomes"]["clicked"]["count"] == counts.unit_count("int8")
    assert arm["outcomes"]["clicked"]["mean"]["low"] < 0.5 < arm["outcomes"]["clicked"]["mean"]["high"]
    assert "revenue" not in control["outcomes"] | arm["outcomes"]
    unit = next(f"user-{number}" for number in range(100) if SPLIT.arm(f"user-{number}") == "int8")
    expose(registry, started, "r1", unit)
    control, arm = client.get(started).json()["results"]["arms"]
    assert arm["outcomes"]["revenue"] == {"count": 1, "mean": {"low": None, "estimate": 7.5, "high": None}}
    assert "revenue" not in control["outcomes"]
    assert "clicked" in arm["verdict"]["outcomes"]


def test_outcomes_of_units_that_never_came_do_not_count(client: TestClient, registry: Database, started: str) -> None:
    keep_counts(registry, id_of(started), 10)
    reports = [{"unit": f"user-{number}", "metric": "clicked", "value": 1} for number in range(20)]
    client.post("/api/v1/outcomes", json=reports)
    arms = client.get(started).json()["results"]["arms"]
    assert sum(arm["outcomes"].get("clicked", {"count": 0})["count"] for arm in arms) == 10


def test_late_outcomes_are_welcome(client: TestClient, registry: Database, started: str) -> None:
    expose(registry, started, "r1", "user-1")
    keep_counts(registry, id_of(started), 10)
    client.post(f"{started}/rollback")
    late = [
        {"request_id": "r1", "metric": "clicked", "value": 1},
        {"unit": "user-2", "metric": "clicked", "value": True, "experiment": id_of(started)},
    ]
    assert client.post("/api/v1/outcomes", json=late).json()["new"] == 2
    arms = client.get(started).json()["results"]["arms"]
    assert sum(arm["outcomes"].get("clicked", {"count": 0})["count"] for arm in arms) == 2


def test_a_label_is_no_outcome_that_has_a_mean(client: TestClient, registry: Database, started: str) -> None:
    expose(registry, started, "r1", "user-1")
    answered = [NewPairedAnswer("r1", "int8", 3, 4, now()), NewPairedAnswer("r2", "int8", 4, 3, now())]
    with registry.writing() as session:
        records.add_paired_answers(session, id_of(started), answered)
    # The second request is of a user who is not covered: nothing but the shadow knows it.
    client.post(f"{started}/stop")
    labels = [{"request_id": each, "metric": "label", "value": 3} for each in ("r1", "r2")]
    assert client.post("/api/v1/outcomes", json=labels).json() == {"received": 2, "new": 2}
    other = [{"request_id": each, "metric": "label", "value": 4} for each in ("r1", "r2")]
    assert client.post("/api/v1/outcomes", json=other).json() == {"received": 2, "new": 0}
    results = client.get(started).json()["results"]
    assert all(arm["outcomes"] == {} for arm in results["arms"])
    (shadow,) = results["shadows"]
    right = shadow["right_answers"]
    assert (right["labelled"], right["control_only"], right["variant_only"]) == (2, 1, 1)
    assert right["p_value"] == 1
    verdict = results["arms"][1]["verdict"]
    assert verdict["right_answers"] == right["change"]
    assert "alone right on 1, alone wrong on 1 of 2 labelled" in verdict["sentence"]


@pytest.mark.parametrize("about", [{}, {"experiment": True}])
def test_a_label_beyond_the_classes_of_the_model_is_refused(
    client: TestClient, registry: Database, kept: Kept, started: str, about: dict[str, bool]
) -> None:
    named = {"experiment": id_of(started)} if about else {}
    with registry.writing() as session:
        experiments.find(session, id_of(started)).revision.class_names = ["cat", "dog", "eel", "fox"]
    before = kept.now()
    answer = client.post("/api/v1/outcomes", json=[LABEL | named | {"value": 3}, LABEL | named | {"value": 4}])
    assert (answer.status_code, answer.json()["field"]) == (422, "1.value")
    assert "4 classes, 0 to 3" in answer.json()["detail"]
    assert kept.now() == before
    assert client.post("/api/v1/outcomes", json=[LABEL | named | {"value": 3}]).json()["new"] == 1


def test_a_closed_experiment_takes_no_outcomes(client: TestClient, registry: Database, started: str) -> None:
    client.post(f"{started}/stop")
    assert client.get(started).json()["closed_at"] is None
    with registry.writing() as session:
        experiment = retention.claim(session, id_of(started))
        assert experiment is not None
        retention.close(session, experiment, Counts(("original", "int8")).to_json())
    refused = client.post("/api/v1/outcomes", json=[OUTCOME | {"experiment": id_of(started)}])
    assert (refused.status_code, refused.json()["field"]) == (409, "0.experiment")
    assert "takes no outcomes any more" in refused.json()["detail"]
    assert client.get(started).json()["closed_at"] is not None


OUTCOME = {"unit": "u1", "metric": "clicked", "value": 1}
LABEL = {"request_id": "r1", "metric": "label"}


@pytest.mark.parametrize(
    ("reports", "status", "field", "words"),
    [
        ([{"unit": "u1", "value": 1}], 422, "0.metric", "required"),
        ([{"unit": "u1", "metric": "", "value": 1}], 422, "0.metric", "pattern"),
        ([OUTCOME, {"unit": "u1", "metric": "clicked"}], 422, "1.value", "required"),
        ([OUTCOME, OUTCOME | {"value": "much"}], 422, "1.value", "number"),
        ([OUTCOME, {"metric": "clicked", "value": 1}], 422, "1.unit", "outcome 1 must name"),
        ([OUTCOME | {"request_id": "r1"}], 422, "0.unit", "not both"),
        ([OUTCOME | {"unit": "a\0b"}], 422, "0.unit", "null"),
        ([OUTCOME | {"unit": "u" * 201}], 422, "0.unit", "200"),
        ([OUTCOME, OUTCOME | {"experiment": "0" * 32}], 404, "experiment", "no experiment"),
        ([OUTCOME | {"colour": "red"}], 422, "0.colour", "not permitted"),
        ([OUTCOME, LABEL | {"value": 1.5}], 422, "1.value", "numbers of classes"),
        ([LABEL | {"value": -1}], 422, "0.value", "numbers of classes"),
        ([OUTCOME | {"metric": "label"}], 422, "0.unit", "names the `request_id`"),
        ([], 422, "body", "at least 1"),
        ([OUTCOME] * 1001, 422, "body", "at most 1000"),
        (OUTCOME, 422, "body", "list"),
    ],
)
def test_a_wrong_outcome_is_named_and_none_is_kept(
    client: TestClient, started: str, kept: Kept, reports: object, status: int, field: str, words: str
) -> None:
    before = kept.now()
    answer = client.post("/api/v1/outcomes", json=reports)
    assert (answer.status_code, answer.json()["field"]) == (status, field), answer.text
    assert words in answer.json()["detail"]
    assert kept.now() == before


def test_outcomes_of_no_experiment_are_refused(client: TestClient, registry: Database) -> None:
    create(client)
    answer = client.post("/api/v1/outcomes", json=[OUTCOME])
    assert (answer.status_code, answer.json()["field"]) == (409, "0.experiment")


def test_half_a_character_is_refused(client: TestClient, registry: Database) -> None:
    body = json.dumps([OUTCOME | {"unit": "half"}]).replace('"half"', '"\\ud800"')
    answer = client.post("/api/v1/outcomes", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["field"]) == (422, "body")
