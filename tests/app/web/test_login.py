"""A browser signs in, stays so, and out."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app.access.gate import COOKIE
from app.registry import keys
from app.registry.tables import BrowserSession, now
from app.settings import Settings
from tests.app.access.keyed import Keyed, keyed_by
from tests.app.conftest import upload_model

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
def keyed(client: TestClient, settings: Settings) -> Iterator[Keyed]:
    upload_model(client)
    client.follow_redirects = False
    with keyed_by(client, settings) as made:
        yield made


def _sign_in(keyed: Keyed, key: str, **fields: str):  # type: ignore[no-untyped-def]
    return keyed.client.post("/login", data={"key": key, **fields}, headers=HTML)


def test_a_page_without_a_key_leads_to_the_sign_in_and_back(keyed: Keyed) -> None:
    key = keyed.make("read")
    away = keyed.client.get("/?a=1&b=2", headers=HTML)
    assert (away.status_code, away.headers["Location"]) == (303, "/login?next=/%3Fa%3D1%26b%3D2")
    form = keyed.client.get(away.headers["Location"], headers=HTML)
    assert 'value="/?a=1&amp;b=2"' in form.text
    back = _sign_in(keyed, key, next="/?a=1&b=2")
    assert (back.status_code, back.headers["Location"]) == (303, "/?a=1&b=2")
    assert "linear" in keyed.client.get("/", headers=HTML).text


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(keyed: Keyed) -> None:
    key = keyed.make("read")
    said = _sign_in(keyed, key).headers["Set-Cookie"].lower()
    assert "httponly" in said
    assert "samesite=strict" in said
    assert "secure" not in said
    assert key.split("_")[2] not in said
    with keyed.database.reading() as session:
        (row,) = session.scalars(keys.select(BrowserSession)).all()
        assert row.digest not in said
        assert keyed.client.cookies[COOKIE] != row.digest


def test_calls_of_the_pages_are_let_in_by_the_cookie_as_the_key_would_be(keyed: Keyed) -> None:
    _sign_in(keyed, keyed.make("write", models="lin*"))
    client = keyed.client
    assert client.get("/api/v1/models").status_code == 200
    assert client.get("/api/v1/models/other").status_code == 403
    assert client.get("/api/v1/keys").status_code == 403
    own = {"Origin": "http://localhost"}
    assert client.post("/api/v1/jobs", json={"model": "linear", "method": "fp16"}, headers=own).status_code == 202
    for origin in ("http://evil.example", "null", "http://localhost:9"):
        other = {"Origin": origin}
        assert client.delete("/api/v1/models/linear", headers=other).status_code == 403
        assert client.post("/v2/models/linear/infer", json={}, headers=other).status_code == 403


def test_a_wrong_key_and_one_that_may_not_look_get_no_cookie(keyed: Keyed) -> None:
    small = keyed.make("infer")
    wrong = _sign_in(keyed, small[:-1] + "x")
    assert (wrong.status_code, "Set-Cookie" in wrong.headers) == (401, False)
    assert "no key of this service" in wrong.text
    assert small[:-1] not in wrong.text
    refused = _sign_in(keyed, small)
    assert (refused.status_code, "Set-Cookie" in refused.headers) == (403, False)


def test_who_signs_out_is_out_though_the_cookie_was_copied(keyed: Keyed) -> None:
    _sign_in(keyed, keyed.make("read", "kim"))
    copied = keyed.client.cookies[COOKIE]
    assert "<strong>kim</strong>" in keyed.client.get("/login", headers=HTML).text
    out = keyed.client.post("/logout", headers={"Origin": "http://localhost"})
    assert (out.status_code, out.headers["Location"]) == (303, "/login")
    assert COOKIE not in keyed.client.cookies
    assert keyed.client.get("/api/v1/models", headers={"Cookie": f"{COOKIE}={copied}"}).status_code == 401


def test_a_session_ends_with_its_key_and_with_its_time(keyed: Keyed) -> None:
    first = keyed.make("read")
    _sign_in(keyed, first)
    with keyed.database.writing() as session:
        keys.revoke(session, first.split("_")[1])
    keyed.keyring.look()
    assert keyed.client.get("/api/v1/models").status_code == 401
    _sign_in(keyed, keyed.make("read"))
    assert keyed.client.get("/api/v1/models").status_code == 200
    with keyed.database.writing() as session:
        session.execute(keys.update(BrowserSession).values(expires_at=now()))
    assert keyed.client.get("/api/v1/models").status_code == 401


@pytest.mark.parametrize("elsewhere", ["https://evil.example", "//evil.example", "/\\evil.example", "x", "/a\r\nb: c"])
def test_nobody_is_led_elsewhere(keyed: Keyed, elsewhere: str) -> None:
    assert _sign_in(keyed, keyed.make("read"), next=elsewhere).headers["Location"] == "/"


def test_another_site_signs_nobody_in(keyed: Keyed) -> None:
    key = keyed.make("read")
    answer = keyed.client.post("/login", data={"key": key}, headers={"Origin": "http://evil.example"})
    assert (answer.status_code, "Set-Cookie" in answer.headers) == (403, False)


def test_behind_a_proxy_that_speaks_https_the_cookie_stays_within_it(keyed: Keyed, settings: Settings) -> None:
    services = keyed.client.app._app.state.services  # type: ignore[attr-defined]
    object.__setattr__(services, "settings", settings.model_copy(update={"secure_cookies": True}))
    assert "secure" in _sign_in(keyed, keyed.make("read")).headers["Set-Cookie"].lower()


def test_without_keys_there_is_nothing_to_sign_in_to(client: TestClient) -> None:
    assert client.get("/login", follow_redirects=False).headers["Location"] == "/"
