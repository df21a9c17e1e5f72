"""A service without keys: whom it answers, and what pages from elsewhere may have a browser ask of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.access import exposure
from app.access.exposure import Exposure
from app.caller import Scope
from app.errors import Conflict
from app.main import create_app
from app.registry import Database, keys
from app.settings import Settings
from tests import registries
from tests.app.access.keyed import Keyed, keyed_by
from tests.app.conftest import upload_model

HERE = ["localhost", "127.0.0.1", "127.0.0.53", "::1"]
ELSEWHERE = ["0.0.0.0", "::", "192.168.1.7", "10.0.0.1", "octet.example", ""]


@pytest.mark.parametrize("host", [*HERE, *ELSEWHERE])
@pytest.mark.parametrize("insecure", [False, True])
def test_without_keys_others_are_answered_only_where_the_operator_insists(
    sqlite_database: Database, host: str, insecure: bool
) -> None:
    settings = Settings(host=host, insecure=insecure)
    if host in HERE or insecure:
        notice = exposure.check(settings, sqlite_database)
        assert notice is not None
        assert "No key was made yet" in notice
        return
    with pytest.raises(Conflict, match=r"loopback interface only.*octet keys create.*--insecure"):
        exposure.check(settings, sqlite_database)


@pytest.mark.parametrize("revoked", [False, True])
def test_with_keys_it_answers_wherever_it_is_told_to(database: Database, revoked: bool) -> None:
    with database.writing() as session:
        key, _ = keys.create(session, keys.NewKey("k", Scope.admin))
        if revoked:
            keys.revoke(session, key.id)
    assert exposure.check(Settings(host="0.0.0.0"), database) is None


def test_a_gateway_does_not_start_where_others_would_reach_it(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", host="0.0.0.0", grpc_port=0)
    settings.make_folders()
    registries.migrate(settings.registry_url)
    with pytest.raises(Conflict, match="octet keys create"), TestClient(create_app(settings)):
        pass


def test_it_says_at_the_start_that_it_has_no_keys(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    settings.make_folders()
    registries.migrate(settings.registry_url)
    with TestClient(create_app(settings), base_url="http://localhost"):
        assert exposure.NO_KEYS in caplog.messages


@pytest.fixture(scope="module")
def shared_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A gateway that has the model `linear`, for tests that change nothing."""
    settings = Settings(home=tmp_path_factory.mktemp("exposure") / "home", grpc_port=0)
    settings.make_folders()
    registries.migrate(settings.registry_url)
    with TestClient(create_app(settings), base_url="http://localhost", raise_server_exceptions=False) as client:
        assert upload_model(client).status_code == 201
        yield client


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:9", "[::1]:8000", "[::1]", "127.0.0.1"])
@pytest.mark.parametrize("path", ["/api/v1/models", "/v2/models/linear", "/"])
def test_a_browser_reaches_its_own_machine_by_its_own_names(shared_client: TestClient, host: str, path: str) -> None:
    assert shared_client.get(path, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "", "[::2]", "0.0.0.0", "10.0.0.1"],
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/api/v1/models"), ("POST", "/v2/models/m/infer"), ("GET", "/")])
def test_a_name_that_was_bound_to_it_by_others_reaches_nothing(
    shared_client: TestClient, host: str, method: str, path: str
) -> None:
    answer = shared_client.request(method, path, headers={"Host": host})
    assert answer.status_code == 403
    assert "OCTET_ALLOWED_HOSTS" in answer.text


def test_names_that_the_operator_lists_reach_it(settings: Settings) -> None:
    chosen = Exposure.of(settings.model_copy(update={"allowed_hosts": "Gateway, octet.lan"}))
    assert [chosen.may_be_called(host) for host in ("gateway:8000", "octet.lan", "localhost", "other")] == [
        True,
        True,
        True,
        False,
    ]


def test_where_all_may_come_all_names_do_unless_some_are_listed(settings: Settings) -> None:
    insecure = settings.model_copy(update={"insecure": True})
    assert Exposure.of(insecure).may_be_called("any.example")
    assert not Exposure.of(insecure.model_copy(update={"allowed_hosts": "gateway"})).may_be_called("any.example")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:8001", "https://localhost.evil"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/v1/jobs"), ("DELETE", "/api/v1/models/linear"), ("POST", "/v2/models/linear/infer")],
)
def test_pages_of_other_origins_change_nothing(shared_client: TestClient, origin: str, method: str, path: str) -> None:
    answer = shared_client.request(method, path, headers={"Origin": origin}, content=b"{}")
    assert answer.status_code == 403
    assert "another origin" in answer.text
    assert shared_client.get("/api/v1/models/linear").status_code == 200


def test_its_own_pages_do(client: TestClient) -> None:
    upload_model(client)
    assert client.delete("/api/v1/models/linear", headers={"Origin": "http://localhost"}).status_code == 204


# Other origins that are listed


def test_no_origin_may_read_answers_unless_it_is_listed(client: TestClient, settings: Settings) -> None:
    asking = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    answers = [client.options("/v2/models/m/infer", headers=asking), client.get("/v2", headers=asking)]
    assert not any(name.startswith("access-control") for answer in answers for name in answer.headers)
    listed = settings.model_copy(update={"cors_origins": "https://app.example/", "home": settings.home})
    with (
        TestClient(create_app(listed), base_url="http://localhost") as other,
        keyed_by_inner(other, listed) as keyed,
    ):
        key = keyed.make("infer")
        allowed = other.options(
            "/v2/models/m/infer", headers={**asking, "Access-Control-Request-Headers": "authorization"}
        )
        assert allowed.status_code == 200
        assert allowed.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert "Access-Control-Allow-Credentials" not in allowed.headers
        answer = keyed.send("GET", "/v2", key, headers={"Origin": "https://app.example"})
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
        strange = keyed.send("GET", "/v2", key, headers={"Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in strange.headers


def keyed_by_inner(client: TestClient, settings: Settings):  # type: ignore[no-untyped-def]
    client.app._app = client.app.app._app  # type: ignore[attr-defined]
    return keyed_by(client, settings)


def test_what_browsers_are_told_of_pages(client: TestClient, keyed: Keyed) -> None:
    for path in ("/", "/docs", "/login"):
        headers = client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert "Content-Security-Policy" in headers
    json = client.get("/api/v1/models").headers
    assert json["X-Content-Type-Options"] == "nosniff"
    assert "X-Frame-Options" not in json
