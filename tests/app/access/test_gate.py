"""What keys may reach through the gateway, and how much of it."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.caller import Scope
from app.main import create_app
from app.registry import Database, audit, keys
from app.registry.tables import now
from app.settings import Settings
from tests import registries
from tests.app.access.keyed import Keyed
from tests.app.conftest import Kept, onnx_bytes, upload_dataset, upload_model
from tests.app.live_experiment import ARMS, URL, add_variants

INFER = "/v2/models/linear/infer"
REQUEST = {"inputs": [{"name": "x", "shape": [1, 16], "datatype": "FP32", "data": [0.5] * 16}]}


@pytest.fixture
def model(client: TestClient) -> None:
    """Models `linear` and `other`, from before there were keys."""
    assert upload_model(client).status_code == 201
    assert upload_model(client, name="other").status_code == 201


@pytest.mark.usefixtures("model")
def test_inference_takes_a_key_in_either_header(keyed: Keyed) -> None:
    key = keyed.make("infer")
    assert keyed.send("POST", INFER, json=REQUEST).status_code == 401
    assert keyed.send("POST", INFER, key, json=REQUEST).status_code == 200
    assert keyed.send("POST", INFER, headers={"X-API-Key": key}, json=REQUEST).status_code == 200
    assert keyed.send("POST", INFER, headers={"Authorization": f"bearer  {key}"}, json=REQUEST).status_code == 200
    for other in (f"Basic {key}", key, "Bearer", f"Bearer {key} {key}"):
        assert keyed.send("POST", INFER, headers={"Authorization": other}, json=REQUEST).status_code == 401


@pytest.mark.usefixtures("model")
def test_a_revoked_and_an_expired_key_are_refused(keyed: Keyed) -> None:
    admin, key = keyed.make("admin"), keyed.make("infer")
    short = keyed.make("infer", expires_at=now() + timedelta(hours=1))
    assert keyed.send("POST", INFER, key, json=REQUEST).status_code == 200
    assert keyed.send("DELETE", f"/api/v1/keys/{key.split('_')[1]}", admin).json()["state"] == "revoked"
    refused = keyed.send("POST", INFER, key, json=REQUEST)
    assert refused.status_code == 401
    assert "revoked or has expired" in refused.json()["error"]
    keyed.keyring._clock = lambda: now().timestamp() + 3601
    assert keyed.send("POST", INFER, short, json=REQUEST).status_code == 401


@pytest.mark.usefixtures("model")
def test_a_key_that_another_gateway_made_a_moment_ago_lets_in(keyed: Keyed) -> None:
    keyed.make("admin")
    with keyed.database.writing() as session:
        _, shown = keys.create(session, keys.NewKey("new", Scope.infer))
    keyed.keyring._looked_at -= 1
    assert keyed.send("POST", INFER, shown, json=REQUEST).status_code == 200


@pytest.mark.usefixtures("model")
def test_a_key_for_some_models_is_told_nothing_of_others(keyed: Keyed) -> None:
    admin = keyed.make("admin")
    job = keyed.send("POST", "/api/v1/jobs", admin, json={"model": "other", "method": "fp16"}).json()["id"]
    key = keyed.make("write", models="lin*")
    assert [each["name"] for each in keyed.send("GET", "/api/v1/models", key).json()] == ["linear"]
    assert keyed.send("GET", "/api/v1/jobs", key).json() == []
    assert {each["name"] for each in keyed.send("POST", "/v2/repository/index", key).json()} == {"linear"}
    stats = keyed.send("GET", "/v2/models/stats", key).json()["model_stats"]
    assert {each["name"] for each in stats} == {"linear"}
    for page in ("/", "/jobs", "/experiments", "/system"):
        assert "other" not in re.sub("[a-z]+-other|other [a-z]+", "", keyed.send("GET", page, key).text), page
    assert keyed.send("GET", f"/api/v1/jobs/{job}", key).status_code == 404
    assert keyed.send("DELETE", f"/api/v1/jobs/{job}", key).status_code == 404
    for there, not_there in (
        (_asked(keyed, key, "other"), _asked(keyed, key, "absent")),
        (_asked(keyed, key, "other@original"), _asked(keyed, key, "absent@original")),
    ):
        assert there == [text.replace("absent", "other") for text in not_there]
    assert keyed.send("POST", INFER, key, json=REQUEST).status_code == 200
    assert keyed.send("GET", "/api/v1/models/linear", key).status_code == 200


def _asked(keyed: Keyed, key: str, model: str) -> list[str]:
    answers = [
        keyed.send("POST", f"/v2/models/{model}/infer", key, json=REQUEST),
        keyed.send("GET", f"/v2/models/{model}/versions/1/ready", key),
        keyed.send("GET", f"/api/v1/models/{model}/variants", key),
        keyed.send("DELETE", f"/api/v1/models/{model}", key),
    ]
    if "@" not in model:
        answers += [
            keyed.send("POST", "/api/v1/jobs", key, json={"model": model, "method": "fp16"}),
            keyed.send("GET", "/api/v1/jobs", key, params={"model": model}),
            keyed.send("POST", "/api/v1/models", key, files={"file": ("m.onnx", onnx_bytes())}, data={"name": model}),
        ]
    assert [answer.status_code for answer in answers] == [403] * len(answers)
    return [answer.text for answer in answers]


def test_outcomes_are_of_experiments_on_the_models_of_the_key(client: TestClient, keyed: Keyed) -> None:
    upload_model(client)
    add_variants(keyed.database)
    admin = keyed.make("admin")
    created = keyed.send("POST", URL, admin, json={"name": "live", "arms": ARMS})
    assert keyed.send("POST", f"{created.headers['Location']}/start", admin).status_code == 200
    outcome = {"unit": "user-7", "metric": "clicked", "value": 1}
    by_name = [{**outcome, "experiment": created.json()["id"]}]
    mine, others = keyed.make("infer", models="lin*"), keyed.make("infer", models="x*")
    assert keyed.send("POST", "/api/v1/outcomes", others, json=by_name).status_code == 404
    # To this key, none is running.
    assert keyed.send("POST", "/api/v1/outcomes", others, json=[outcome]).status_code == 409
    assert keyed.send("POST", "/api/v1/outcomes", mine, json=[outcome]).json() == {"received": 1, "new": 1}
    rows = _log(keyed, admin, noun="outcomes")
    assert rows == [("infer", "reported", f"outcomes {created.json()['id']}", "done")]


def test_a_rate_is_kept_and_says_when_to_come_again(keyed: Keyed) -> None:
    key = keyed.make("infer", rate=0.01, burst=2)
    answers = [keyed.send("GET", "/v2", key) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 90 <= int(answers[2].headers["Retry-After"]) <= 100
    assert "0.01 requests a second" in answers[2].json()["error"]
    assert keyed.send("GET", "/v2", keyed.make("infer")).status_code == 200


def test_a_quota_counts_what_was_uploaded_and_refuses_more_before_it_is_kept(keyed: Keyed, kept: Kept) -> None:
    quota = len(onnx_bytes()) + 500
    key = keyed.make("write", upload_quota_bytes=quota)

    def upload(name: str, content: bytes = onnx_bytes()) -> int:
        files = {"file": ("m.onnx", content)}
        return keyed.send("POST", "/api/v1/models", key, files=files, data={"name": name}).status_code

    assert upload("broken", b"this is no model") == 422
    assert keyed.kept(key).uploaded_bytes == 0
    assert upload("first") == 201
    counted = keyed.kept(key).uploaded_bytes
    assert len(onnx_bytes()) < counted <= quota
    before = kept.now()
    refused = keyed.send(
        "POST", "/api/v1/models", key, files={"file": ("m.onnx", onnx_bytes())}, data={"name": "second"}
    )
    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 86_400
    assert f"{quota - counted} are left" in refused.json()["detail"]
    assert kept.now() == before
    with keyed.database.writing() as session:
        keys.find(session, key.split("_")[1]).upload_day = "2000-01-01"
    assert upload("second") == 201


def test_uploads_under_a_quota_say_how_long_they_are(keyed: Keyed) -> None:
    key = keyed.make("write", upload_quota_bytes=10)
    answer = keyed.send("POST", "/api/v1/models", key, content=iter([b"x" * 100]))
    assert answer.status_code == 411


def test_a_key_for_some_models_cannot_be_of_scope_admin(keyed: Keyed) -> None:
    admin = keyed.make("admin")
    answer = keyed.send("POST", "/api/v1/keys", admin, json={"name": "x", "scope": "admin", "models": "m*"})
    assert (answer.status_code, answer.json()["field"]) == (422, "models")


def test_keys_are_made_shown_once_and_revoked_over_http(keyed: Keyed) -> None:
    admin = keyed.make("admin")
    wanted = {"name": "shop", "scope": "read", "rate": 5}
    made = keyed.send("POST", "/api/v1/keys", admin, json=wanted)
    assert made.status_code == 201
    assert made.headers["Cache-Control"] == "no-store"
    shown = made.json()["key"]
    assert keyed.send("GET", "/api/v1/models", shown).status_code == 200
    listed = keyed.send("GET", "/api/v1/keys", admin)
    assert [(each["name"], each["state"], each["burst"]) for each in listed.json()] == [
        ("admin", "active", None),
        ("shop", "active", 5),
    ]
    assert shown.split("_")[2] not in listed.text
    assert keyed.send("DELETE", made.headers["Location"], admin).status_code == 200
    assert keyed.send("GET", "/api/v1/models", shown).status_code == 401
    assert keyed.send("GET", made.headers["Location"], admin).json()["state"] == "revoked"


def test_the_first_key_is_not_made_over_http(client: TestClient) -> None:
    answer = client.post("/api/v1/keys", json={"name": "x", "scope": "admin"})
    assert answer.status_code == 403
    assert "octet keys create" in answer.json()["detail"]


def test_what_an_open_path_does_not_offer_is_told_without_a_key(keyed: Keyed) -> None:
    keyed.make("read")
    for path in ("/v2/health/live", "/openapi.json"):
        refused = keyed.send("DELETE", path)
        assert refused.status_code == 405
        assert refused.headers["Allow"].startswith("GET")
    assert keyed.send("DELETE", "/api/v1/audit").status_code == 401


def test_metrics_need_a_key_unless_the_setting_says_otherwise(keyed: Keyed, tmp_path: Path) -> None:
    keyed.make("admin")
    assert keyed.send("GET", "/metrics").status_code == 401
    settings = Settings(home=tmp_path / "home", grpc_port=0, open_metrics=True)
    with TestClient(create_app(settings), base_url="http://localhost") as client:
        assert client.get("/metrics").status_code == 200
        assert client.get("/api/v1/models").status_code == 401


# What is written down


def _log(keyed: Keyed, admin: str, **filters: object) -> list[tuple[str, str, str, str]]:
    rows = keyed.send("GET", "/api/v1/audit", admin, params=filters).json()
    return [(row["by"], row["verb"], f"{row['noun']} {row['name']}", row["outcome"]) for row in rows]


def test_each_change_is_in_the_audit_log_with_who_made_it(client: TestClient, keyed: Keyed) -> None:
    upload_dataset(client)
    admin, writer = keyed.make("admin"), keyed.make("write", "ci")
    files = {"file": ("m.onnx", onnx_bytes())}
    headers = {"X-Request-Id": "order-7"}
    sent = keyed.send("POST", "/api/v1/models", writer, files=files, data={"name": "linear"}, headers=headers)
    assert sent.status_code == 201
    job = keyed.send("POST", "/api/v1/jobs", writer, json={"model": "linear", "method": "fp16"}).json()["id"]
    keyed.send("DELETE", f"/api/v1/jobs/{job}", writer)
    keyed.send("PUT", "/api/v1/models/linear/default", writer, json={"variant": "original"})
    keyed.send("POST", "/v2/repository/models/linear/unload", writer, json={})
    keyed.send("POST", "/v2/repository/models/linear/load", writer, json={})
    keyed.send("DELETE", "/api/v1/models/linear", writer)
    assert _log(keyed, admin, by="ci") == [
        ("ci", "deleted", "model linear", "done"),
        ("ci", "loaded", "variant linear@original", "done"),
        ("ci", "unloaded", "variant linear@original", "done"),
        ("ci", "made default", "variant linear@original", "done"),
        ("ci", "cancelled", f"job linear@fp16 {job}", "done"),
        ("ci", "submitted", f"job linear@fp16 {job}", "done"),
        ("ci", "uploaded", "model linear revision 1", "done"),
    ]
    assert _log(keyed, admin, noun="dataset") == [("local", "uploaded", "dataset samples", "done")]
    (entry,) = keyed.send("GET", "/api/v1/audit", admin, params={"name": "linear revision"}).json()
    assert (entry["request_id"], entry["key_id"]) == ("order-7", writer.split("_")[1])


def test_what_a_key_tried_and_may_not_is_in_the_log_too(keyed: Keyed) -> None:
    admin, reader = keyed.make("admin"), keyed.make("read", "curious")
    keyed.send("DELETE", "/api/v1/models/linear", reader)
    keyed.send("DELETE", "/api/v1/models/linear")
    keyed.send("GET", "/api/v1/audit", reader)
    assert _log(keyed, admin, by="curious") == [
        ("curious", "DELETE", "path /api/v1/models/{model} linear", "refused"),
    ]


def test_what_came_to_nothing_is_not_a_change(client: TestClient, keyed: Keyed) -> None:
    upload_model(client)
    admin = keyed.make("admin")
    before = _log(keyed, admin)
    keyed.send("POST", "/api/v1/models", admin, files={"file": ("m.onnx", b"no model")}, data={"name": "x"})
    keyed.send("POST", "/api/v1/models", admin, files={"file": ("m.onnx", onnx_bytes())}, data={"name": "linear"})
    keyed.send("DELETE", "/api/v1/models/absent", admin)
    assert _log(keyed, admin) == before


def test_the_log_is_read_page_by_page(keyed: Keyed) -> None:
    admin = keyed.make("admin", "first")
    for number in range(4):
        keyed.make("read", f"k{number}")
    seen: list[str] = []
    address = "/api/v1/audit?limit=2"
    for _ in range(3):
        page = keyed.send("GET", address, admin)
        seen += [row["name"].split()[1] for row in page.json()]
        address = "/api/v1/audit" + page.headers.get("Link", "<>").partition("<")[2].partition(">")[0]
    assert seen == ["k3", "k2", "k1", "k0", "first"]
    assert "Link" not in page.headers


def test_nothing_secret_is_in_the_log_of_changes(keyed: Keyed) -> None:
    admin = keyed.make("admin")
    keyed.send("DELETE", f"/api/v1/keys/{admin}", keyed.make("read"))
    assert admin.split("_")[2] not in keyed.send("GET", "/api/v1/audit", admin).text


@pytest.mark.usefixtures("model")
def test_no_key_reaches_logs_answers_or_figures(keyed: Keyed, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    admin, key = keyed.make("admin"), keyed.make("infer")
    answers = [
        keyed.send("POST", INFER, key, json=REQUEST),
        keyed.send("POST", INFER, key[:-1] + "x", json=REQUEST),
        keyed.send("DELETE", "/api/v1/models/linear", key),
        keyed.send("GET", "/api/v1/models", admin),
        keyed.send("GET", "/api/v1/keys", admin),
        keyed.send("GET", "/metrics", admin),
        keyed.send("GET", "/openapi.json"),
    ]
    said = "".join([*(answer.text + str(answer.headers) for answer in answers), *map(repr, map(vars, caplog.records))])
    for secret in (admin.split("_")[2], key.split("_")[2][:-1]):
        assert secret not in said


def test_a_registry_on_either_database_counts_uploads_exactly(database: Database) -> None:
    with database.writing() as session:
        key, _ = keys.create(session, keys.NewKey("k", Scope.write, upload_quota_bytes=100))
        day = keys.take_upload(session, key.id, 60)
    with database.writing() as session:
        with pytest.raises(keys.QuotaExceeded):
            keys.take_upload(session, key.id, 41)
        keys.take_upload(session, key.id, 40)
        keys.give_upload_back(session, key.id, day, 60)
        keys.give_upload_back(session, key.id, "2000-01-01", 40)
        assert session.scalar(keys.select(keys.ApiKey.uploaded_bytes)) == 40


def test_the_registry_of_a_service_finds_its_log(settings: Settings) -> None:
    settings.make_folders()
    registries.migrate(settings.registry_url)
    database = Database(settings.registry_url)
    with database.writing() as session:
        audit.record(session, "did", "thing", "näme\0\n octet_abcdefghijkl_0123456789abcdef")
    with database.reading() as session:
        (entry,) = audit.listed(session)
        assert (entry.by, entry.name) == ("octet", "n\\xe4me\\x00\\n octet_abcdefghijkl_***")
    database.close()
