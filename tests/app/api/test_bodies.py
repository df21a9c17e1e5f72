"""What stands for something else is not taken for it."""

from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.settings import Settings
from tests.app.access.keyed import keyed_by
from tests.app.conftest import upload_model

ARMS = [{"variant": "original", "weight": 1, "control": True}]
EXPERIMENT = {"name": "e", "arms": ARMS, "dry_run": True}
KEY = {"name": "k", "scope": "read"}

WRONG: list[tuple[str, str, Any, str]] = [
    ("PUT", "/api/v1/models/linear/default", {"variant": "original", "override": 0}, "override"),
    ("PUT", "/api/v1/models/linear/default", {"variant": 1}, "variant"),
    ("POST", "/api/v1/models/linear/experiments", EXPERIMENT | {"dry_run": 0}, "dry_run"),
    ("POST", "/api/v1/models/linear/experiments", EXPERIMENT | {"auto_rollback": "no"}, "auto_rollback"),
    ("POST", "/api/v1/models/linear/experiments", EXPERIMENT | {"coverage": "0.5"}, "coverage"),
    ("POST", "/api/v1/jobs", {"model": "linear", "method": "dynamic", "revision": "1"}, "revision"),
    ("POST", "/api/v1/jobs", {"model": "linear", "method": "dynamic", "revision": 1.0}, "revision"),
    ("POST", "/api/v1/outcomes", [{"metric": "clicked", "value": "1", "unit": "u"}], "0.value"),
    ("POST", "/api/v1/keys", KEY | {"rate": "5"}, "rate"),
    ("POST", "/api/v1/keys", KEY | {"expires_at": 90}, "expires_at"),
    ("POST", "/api/v1/keys", KEY | {"expires_at": "90"}, "expires_at"),
    ("POST", "/api/v1/keys", KEY | {"expires_at": "2030-01-31T12:00:00"}, "expires_at"),
    ("GET", "/api/v1/audit?since=0.5", None, "since"),
    ("GET", "/api/v1/audit?since=2026-01-31", None, "since"),
]


@pytest.mark.parametrize(("method", "path", "body", "field"), WRONG)
def test_no_value_is_guessed(
    client: TestClient, settings: Settings, method: str, path: str, body: Any, field: str
) -> None:
    assert upload_model(client).status_code == 201
    with keyed_by(client, settings) as keyed:
        refused = keyed.send(method, path, keyed.make("admin"), json=body)
    assert refused.status_code == 422, refused.text
    assert refused.json()["field"] == field


def test_moments_are_taken_with_their_zone(client: TestClient, settings: Settings) -> None:
    with keyed_by(client, settings) as keyed:
        admin = keyed.make("admin")
        made = keyed.send("POST", "/api/v1/keys", admin, json=KEY | {"expires_at": "2090-01-31T12:00:00+02:00"})
        assert made.status_code == 201, made.text
        assert datetime.fromisoformat(made.json()["expires_at"]) == datetime(2090, 1, 31, 10, tzinfo=UTC)
        assert keyed.send("GET", "/api/v1/audit?since=2090-01-31T12:00:00Z", admin).json() == []
