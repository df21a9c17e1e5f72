import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from fastapi.testclient import TestClient

from app.experiments.counts import Counts
from app.registry import Database, records
from tests.app.conftest import Kept, upload_model
from tests.app.live_experiment import ARMS, SPLIT, URL, WANTED, create, id_of, keep_counts

pytestmark = pytest.mark.e2e


def test_a_draft_is_kept_with_its_place_and_changes_nothing(client: TestClient, registry: Database) -> None:
    answer = client.post(URL, json=WANTED)
    assert answer.status_code == 201
    assert answer.headers["ETag"] == '"1"'
    view = answer.json()
    assert (view["state"], view["coverage"], view["revision"], view["model"]) == ("draft", 1.0, 1, "linear")
    assert view["arms"][1] == {
        "variant": "int8", "version": 2, "weight": 50, "control": False, "stopped": False, "share": 0.5
    }  # fmt: skip
    assert view["unit"] == {"from": ["header:X-Unit-Id", "param:unit_id", "api_key"], "on_missing": "control"}
    assert [each["id"] for each in client.get(URL).json()] == [view["id"]]
    shown = client.get(answer.headers["Location"])
    assert shown.headers["ETag"] == '"1"'
    assert {key: value for key, value in shown.json().items() if key != "results"} == view


def test_a_dry_run_answers_what_would_be_and_keeps_nothing(client: TestClient, registry: Database, kept: Kept) -> None:
    before = kept.now()
    answer = client.post(URL, json=WANTED | {"dry_run": True, "coverage": 0.4})
    assert answer.status_code == 200
    assert answer.json()["id"] is None
    assert [arm["share"] for arm in answer.json()["arms"]] == pytest.approx([0.2, 0.2])
    assert kept.now() == before


RAMP = {"steps": [0.01, 0.05, 0.5], "hold_s": 1, "min_units": 5}


@pytest.mark.parametrize(
    ("changes", "status", "field", "words"),
    [
        ({"name": "No"}, 422, "name", "a-z"),
        ({"arms": ARMS[:1]}, 422, "arms", "two arms or more"),
        ({"arms": []}, 422, "arms", "two arms or more"),
        ({"arms": [ARMS[0], {**ARMS[1], "weight": -1}]}, 422, "arms", "0 to 1e9"),
        ({"arms": [{**ARMS[0], "weight": 0}, {**ARMS[1], "weight": 0}]}, 422, "arms", "weight 0"),
        ({"arms": [ARMS[0], {**ARMS[1], "weight": "much"}]}, 422, "arms.1.weight", "number"),
        ({"arms": [ARMS[0], {**ARMS[1], "control": True}]}, 422, "arms", "2 say so"),
        ({"arms": [{**ARMS[0], "control": False}, ARMS[1]]}, 422, "arms", "0 say so"),
        ({"arms": [ARMS[0], {**ARMS[1], "variant": "original"}]}, 422, "arms", "of its own"),
        ({"arms": [ARMS[0], {**ARMS[1], "variant": "fp16"}]}, 404, "variant", "it has original, int8, bad"),
        ({"arms": [ARMS[0], {**ARMS[1], "variant": "bad"}]}, 409, "variant", "too far off"),
        ({"shadow": [{"variant": "bad", "sample": 0.1}]}, 409, "variant", "too far off"),
        ({"shadow": [{"variant": "int8", "sample": 1.5}]}, 422, "shadow", "0 to 1"),
        ({"shadow": [{"variant": "int8", "sample": 0.5}] * 2}, 422, "shadow", "of its own"),
        ({"coverage": 1.5}, 422, "coverage", "0 to 1"),
        ({"coverage": -0.1}, 422, "coverage", "0 to 1"),
        ({"seed": ""}, 422, "seed", "pattern"),
        ({"seed": "a\0b"}, 422, "seed", "pattern"),
        ({"ramp": RAMP | {"steps": [0.1, 0.05]}}, 422, "ramp.steps", "rise"),
        ({"ramp": RAMP | {"steps": [0.1, 0.1]}}, 422, "ramp.steps", "rise"),
        ({"ramp": RAMP | {"steps": [0, 0.1]}}, 422, "ramp.steps", "more than 0"),
        ({"ramp": RAMP | {"steps": [0.5, 2]}}, 422, "ramp.steps", "1 at most"),
        ({"ramp": RAMP | {"steps": []}}, 422, "ramp.steps", "at least 1"),
        ({"ramp": RAMP | {"hold_s": -1}}, 422, "ramp.hold_s", "greater than or equal to 0"),
        ({"guardrails": [{"metric": "speed", "max": 1}]}, 422, "guardrails", "error_rate"),
        ({"guardrails": [{"metric": "error_rate"}]}, 422, "guardrails", "margin_abs"),
        ({"guardrails": [{"metric": "error_rate", "margin_abs": 0}]}, 422, "guardrails", "more than 0"),
        ({"guardrails": [{"metric": "disagreement", "max": 0.01}]}, 422, "guardrails", "shadow"),
        ({"guardrails": [{"metric": "outcome:label", "margin_abs": 0.1}]}, 422, "guardrails", "no outcome"),
        ({"guardrails": [{"metric": "outcome:bought twice", "margin_abs": 0.1}]}, 422, "guardrails", "'bought twice'"),
        ({"guardrails": [{"metric": "outcome:" + "x" * 64, "margin_abs": 0.1}]}, 422, "guardrails", "up to 63"),
        ({"guardrails": [{"metric": "error_rate", "margin_abs": 0.1}] * 2}, 422, "guardrails", "one guardrail"),
        ({"unit": {"from": ["cookie:x"]}}, 422, "unit.from.0", "pattern"),
        ({"unit": {"from": []}}, 422, "unit.from", "at least 1"),
        ({"unit": {"from": ["api_key"], "on_missing": "int8"}}, 422, "unit.on_missing", "'control' or 'random'"),
        ({"analysis": {"alpha": 0}}, 422, "analysis.alpha", "greater than 0"),
        ({"colour": "red"}, 422, "colour", "not permitted"),
    ],
)  # fmt: skip
def test_a_wrong_experiment_is_named_and_leaves_nothing(
    client: TestClient,
    registry: Database,
    kept: Kept,
    changes: dict[str, object],
    status: int,
    field: str,
    words: str,
) -> None:
    before = kept.now()
    answer = client.post(URL, json=WANTED | changes)
    assert (answer.status_code, answer.json().get("field")) == (status, field), answer.text
    assert words in answer.json()["detail"]
    assert kept.now() == before


def test_numbers_that_are_none_are_refused(client: TestClient, registry: Database) -> None:
    for wrong in ("NaN", "Infinity"):
        body = json.dumps(WANTED | {"coverage": "here"}).replace('"here"', wrong)
        answer = client.post(URL, content=body, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["field"]) == (422, "body")
        assert "not valid JSON" in answer.json()["detail"]


@pytest.mark.parametrize("wrong", ["name", "seed"])
def test_half_a_character_is_refused(client: TestClient, registry: Database, wrong: str) -> None:
    body = json.dumps(WANTED | {wrong: "half"}).replace('"half"', '"\\ud800"')
    answer = client.post(URL, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["field"]) == (422, "body")


def test_what_is_not_there_is_not_found(client: TestClient, registry: Database) -> None:
    nothing = f"{URL}/{'0' * 32}"
    for method, address in (
        ("GET", nothing),
        ("GET", f"{nothing}/timeline"),
        ("GET", f"{nothing}/events"),
        ("GET", f"{nothing}/assign?unit=u1"),
        ("GET", f"{URL}/No such thing"),
        ("POST", f"{nothing}/start"),
        ("POST", f"{nothing}/pause"),
        ("POST", f"{nothing}/stop"),
        ("POST", f"{nothing}/rollback"),
        ("GET", "/api/v1/models/nothing/experiments"),
    ):
        assert client.request(method, address).status_code == 404, address
    assert client.post(f"{nothing}/promote", json={"variant": "int8"}).status_code == 404
    assert client.patch(nothing, json={"coverage": 1}, headers={"If-Match": "*"}).status_code == 404


def test_an_experiment_of_another_model_is_not_found(client: TestClient, started: str) -> None:
    upload_model(client, name="other")
    assert client.get(started.replace("/linear/", "/other/")).status_code == 404
    assert client.post(started.replace("/linear/", "/other/") + "/stop").status_code == 404


def test_a_second_experiment_waits_for_the_first(client: TestClient, started: str) -> None:
    second = create(client, name="second")
    refused = client.post(f"{second}/start")
    assert refused.status_code == 409
    assert id_of(started) in refused.json()["detail"]
    assert client.post(f"{started}/pause").json()["state"] == "paused"
    assert client.post(f"{second}/start").status_code == 409
    assert client.post(f"{started}/stop", json={"reason": "enough"}).json()["state"] == "stopped"
    assert client.post(f"{second}/start").json()["state"] == "running"
    assert client.post(f"{started}/start").status_code == 409
    (stopped,) = [event for event in client.get(f"{started}/timeline").json() if event["kind"] == "stopped"]
    assert stopped["detail"] == {"state": "stopped", "by": "request", "reason": "enough"}


def test_what_an_experiment_needs_is_not_deleted(client: TestClient, started: str) -> None:
    for address in ("/api/v1/models/linear", "/api/v1/models/linear/variants/int8"):
        refused = client.delete(address)
        assert refused.status_code == 409
        assert f"{started}/stop" in refused.json()["detail"]
    client.post(f"{started}/stop")
    assert client.delete("/api/v1/models/linear/variants/int8").status_code == 204
    # Its arm is gone, and it can still be looked at.
    assert client.get(started).status_code == 200
    assert client.delete("/api/v1/models/linear").status_code == 204
    assert client.get(started).status_code == 404


def test_a_change_needs_the_state_that_it_was_made_for(client: TestClient, started: str) -> None:
    etag = client.get(started).headers["ETag"]
    missing = client.patch(started, json={"coverage": 0.5})
    assert (missing.status_code, missing.json()["field"]) == (428, "If-Match")
    changed = client.patch(started, json={"coverage": 0.5, "weights": {"int8": 10}}, headers={"If-Match": etag})
    assert changed.status_code == 200
    assert changed.json()["coverage"] == 0.5
    assert [arm["weight"] for arm in changed.json()["arms"]] == [50, 10]
    for stale in (etag, "nonsense", '"999999999999999999999"'):
        refused = client.patch(started, json={"coverage": 0.6}, headers={"If-Match": stale})
        assert (refused.status_code, refused.json()["title"]) == (412, "Precondition Failed")
        assert changed.headers["ETag"] in refused.json()["detail"]
    newest = {"If-Match": changed.headers["ETag"]}
    for wrong, field in (
        ({}, "weights"),
        ({"coverage": 2}, "coverage"),
        ({"weights": {"int8": -1}}, "arms"),
        ({"weights": {"original": 0, "int8": 0}}, "arms"),
        ({"weights": {"fp16": 1}}, "variant"),
    ):
        refused = client.patch(started, json=wrong, headers=newest)
        assert (refused.status_code, refused.json()["field"]) == (422, field)
    assert client.get(started).json()["coverage"] == 0.5
    assert client.patch(started, json={"coverage": 0.7}, headers={"If-Match": "*"}).status_code == 200
    assert "Weights were changed" in client.get(started).json()["results"]["sample_ratio"]["warning"]


def test_a_key_makes_one_change(client: TestClient, registry: Database) -> None:
    address = create(client)
    headers = {"Idempotency-Key": "k"}
    answers = [client.post(f"{address}/start", headers=headers) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len({answer.headers["ETag"] for answer in answers}) == 1
    other = client.post(f"{address}/stop", headers=headers)
    assert (other.status_code, other.json()["field"]) == (422, "Idempotency-Key")
    assert [event["kind"] for event in client.get(f"{address}/timeline").json()] == ["created", "started"]
    promoted = [
        client.post(f"{address}/promote", json={"variant": "int8"}, headers={"Idempotency-Key": "p"}) for _ in range(2)
    ]
    assert [answer.json()["state"] for answer in promoted] == ["promoted"] * 2


def test_a_key_makes_one_experiment(client: TestClient, registry: Database) -> None:
    headers = {"Idempotency-Key": "k"}
    first = client.post(URL, json=WANTED, headers=headers)
    client.post(f"{first.headers['Location']}/start")
    again = client.post(URL, json=WANTED, headers=headers)
    assert (again.status_code, again.headers["Location"]) == (201, first.headers["Location"])
    assert (again.json()["state"], again.headers["ETag"]) == ("running", '"2"')
    assert len(client.get(URL).json()) == 1
    other = client.post(URL, json=WANTED | {"coverage": 0.5}, headers=headers)
    assert (other.status_code, other.json()["field"]) == (422, "Idempotency-Key")
    assert client.post(f"{first.headers['Location']}/stop", headers=headers).status_code == 422
    assert client.post(URL, json=WANTED, headers={"Idempotency-Key": "another"}).status_code == 201
    assert len(client.get(URL).json()) == 2


def test_requests_of_one_key_at_once_make_one_experiment(client: TestClient, registry: Database) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.post(URL, json=WANTED, headers={"Idempotency-Key": "k"}), range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.headers["Location"] for answer in answers}) == 1


def test_a_dry_run_spends_no_key(client: TestClient, registry: Database) -> None:
    headers = {"Idempotency-Key": "k"}
    assert client.post(URL, json=WANTED | {"dry_run": True}, headers=headers).json()["id"] is None
    assert client.post(URL, json=WANTED, headers=headers).status_code == 201


def test_rolling_back_takes_the_units_of_an_arm(client: TestClient, started: str) -> None:
    refused = client.post(f"{started}/rollback", json={"variant": "original"})
    assert (refused.status_code, refused.json()["field"]) == (422, "variant")
    view = client.post(f"{started}/rollback", json={"variant": "int8", "reason": "looks odd"}).json()
    assert (view["state"], view["arms"][1]["stopped"], view["arms"][1]["share"]) == ("rolled_back", True, 0)
    event = client.get(f"{started}/timeline").json()[-1]
    assert (event["kind"], event["detail"]["reason"], event["detail"]["variants"]) == (
        "rolled_back",
        "looks odd",
        ["int8"],
    )
    refused = client.post(f"{started}/promote", json={"variant": "int8"})
    assert refused.status_code == 409


def test_promoting_makes_an_arm_the_default(client: TestClient, registry: Database) -> None:
    address = create(client)
    assert client.post(f"{address}/promote", json={"variant": "int8"}).status_code == 409
    client.post(f"{address}/start")
    for wrong in ("fp16", "bad"):
        refused = client.post(f"{address}/promote", json={"variant": wrong})
        assert (refused.status_code, refused.json()["field"]) == (422, "variant")
    assert client.post(f"{address}/promote", json={}).status_code == 422
    assert client.post(f"{address}/promote", json={"variant": "int8"}).json()["state"] == "promoted"
    assert client.get("/api/v1/models/linear").json()["default_variant"] == "int8"


def test_a_mismatch_of_the_split_warns_and_stops_promotion(
    client: TestClient, registry: Database, started: str
) -> None:
    keep_counts(registry, id_of(started), 4000, lost=0.3)
    ratio = client.get(started).json()["results"]["sample_ratio"]
    assert ratio["mismatch"] is True
    assert ratio["p_value"] < 0.001
    assert "no comparison can be trusted" in ratio["warning"]
    refused = client.post(f"{started}/promote", json={"variant": "int8"})
    assert refused.status_code == 409
    assert "PUT /api/v1/models/linear/default" in refused.json()["detail"]
    assert client.get("/api/v1/models/linear").json()["default_variant"] == "original"


def test_results_of_nothing_say_that_nothing_is_known(client: TestClient, started: str) -> None:
    results = client.get(started).json()["results"]
    control, arm = results["arms"]
    assert (control["requests"], control["units"], control["latency_ms"], control["verdict"]) == (0, 0, None, None)
    assert arm["verdict"]["word"] == "inconclusive"
    assert arm["verdict"]["speedup"]["low"] is None
    assert results["sample_ratio"] == {"p_value": None, "anytime_p_value": 1, "mismatch": False, "warning": None}
    assert "same cores" in results["note"]


def test_results_add_up_what_processes_counted(client: TestClient, registry: Database) -> None:
    address = create(
        client,
        guardrails=[{"metric": "error_rate", "margin_abs": 0.05}],
        shadow=[{"variant": "int8", "sample": 0.5}],
    )
    client.post(f"{address}/start")
    counts = keep_counts(registry, id_of(address), 3000, faster=3)
    other = Counts(("original", "int8"))
    other.failed(SPLIT.place("user-0"))
    for number in range(400):
        other.paired(
            "int8",
            control_ns=3000 + number,
            variant_ns=1000,
            agree=number % 50 > 0,
            cosine=0.99,
            max_abs_difference=0.2,
        )
    with registry.writing() as session:
        records.save_counts(session, id_of(address), "two", other.to_json())
    results = client.get(address).json()["results"]
    control, arm = results["arms"]
    assert control["requests"] + arm["requests"] == 3001
    assert control["units"] + arm["units"] == 3000
    assert control["errors"] + arm["errors"] == 1
    assert control["units"] == counts.unit_count("original")
    assert arm["latency_ms"]["p50"]["low"] < arm["latency_ms"]["p50"]["estimate"] < arm["latency_ms"]["p50"]["high"]
    verdict = arm["verdict"]
    assert verdict["word"] == "better"
    assert "faster at p50" in verdict["sentence"]
    assert verdict["speedup_is_paired"] is True
    assert verdict["guardrails"][0]["result"] == "holds"
    (shadow,) = results["shadows"]
    assert (shadow["pairs"], shadow["disagreements"]) == (400, 8)
    assert shadow["cosine"] == pytest.approx(0.99)
    assert shadow["speedup"]["low"] > 2.9
    assert all(saving["times"] > 1 for saving in shadow["savings"])
    assert len(shadow["savings"]) == 2
    assert results["sample_ratio"]["mismatch"] is False


def test_an_arm_that_fails_is_worse(client: TestClient, registry: Database) -> None:
    address = create(client, guardrails=[{"metric": "error_rate", "margin_abs": 0.02}])
    client.post(f"{address}/start")
    keep_counts(registry, id_of(address), 2000, failing=0.3)
    verdict = client.get(address).json()["results"]["arms"][1]["verdict"]
    assert verdict["word"] == "worse"
    assert verdict["guardrails"][0]["result"] == "broken"


def test_assigning_is_the_split_and_counts_for_nothing(client: TestClient, started: str, kept: Kept) -> None:
    before = kept.now()
    for number in range(20):
        unit = f"user-{number}"
        said = client.get(f"{started}/assign", params={"unit": unit}).json()
        place = SPLIT.place(unit)
        assert said == {
            "unit": unit,
            "variant": place.variant,
            "reason": "hash",
            "bucket": place.bucket,
            "answered_by": place.variant,
        }
    assert kept.now() == before
    client.patch(started, json={"coverage": 0}, headers={"If-Match": "*"})
    said = client.get(f"{started}/assign", params={"unit": "user-1"}).json()
    assert (said["variant"], said["reason"], said["answered_by"]) == (None, "uncovered", "original")
    assert client.get(f"{started}/assign").status_code == 422


def test_a_ramp_begins_where_the_coverage_is(client: TestClient, registry: Database) -> None:
    first = client.get(create(client, ramp=RAMP)).json()
    assert (first["coverage"], first["step"]) == (0.01, 1)
    second = client.get(create(client, ramp=RAMP, coverage=0.1)).json()
    assert (second["coverage"], second["step"]) == (0.1, 2)


def test_events_follow_an_experiment_to_its_end_and_resume(client: TestClient, started: str) -> None:
    def end() -> None:
        time.sleep(0.3)
        client.post(f"{started}/pause")
        client.post(f"{started}/stop")

    ending = threading.Thread(target=end)
    ending.start()
    events = _read_events(client.get(f"{started}/events").text)
    ending.join()
    assert [event["kind"] for event in events] == ["created", "started", "paused", "stopped"]
    assert events == client.get(f"{started}/timeline").json()
    resumed = client.get(f"{started}/events", headers={"Last-Event-ID": str(events[1]["id"])})
    assert _read_events(resumed.text) == events[2:]
    assert client.get(f"{started}/events", headers={"Last-Event-ID": "x"}).status_code == 422


def _read_events(text: str) -> list[dict[str, object]]:
    events = []
    for line in text.replace("\r\n", "\n").splitlines():
        if line.startswith("data: "):
            with suppress(ValueError):
                events.append(json.loads(line.removeprefix("data: ")))
    return events
