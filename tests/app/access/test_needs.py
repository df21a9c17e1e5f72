"""Every call there is, against the table of scopes, with keys of every scope."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.access import needs
from app.caller import Scope
from app.inference.grpc import server
from app.inference.grpc.schema import METHODS
from app.main import create_app
from app.settings import Settings
from tests import registries
from tests.app.access.keyed import Keyed, keyed_by

ROWS = list(needs.rows())
#: Let in, they would wait for what never ends, or end what the tests need.
PLACEHOLDERS = {"path": "octet.css", "number": "1", "key_id": "a" * 12}


def _routes(candidates: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for route in candidates:
        if hasattr(route, "effective_candidates"):
            yield from _routes([*route.effective_candidates(), *route.effective_low_priority_routes()])
        elif getattr(route, "methods", None):
            yield from ((method, route.path) for method in route.methods - {"HEAD"})
        else:
            yield "GET", f"{route.path}/{{path:path}}"


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    settings = Settings(home=tmp_path_factory.mktemp("needs") / "home", grpc_port=0)
    settings.make_folders()
    registries.migrate(settings.registry_url)
    with (
        TestClient(create_app(settings), base_url="http://localhost", raise_server_exceptions=False) as client,
        keyed_by(client, settings) as keyed,
    ):
        yield keyed


@pytest.fixture(scope="module")
def of_scope(keyed: Keyed) -> dict[Scope, str]:
    return {scope: keyed.make(scope) for scope in Scope}


def test_every_route_is_in_the_table_and_nothing_else(keyed: Keyed) -> None:
    app: Any = keyed.client.app
    served = set(_routes(app._app.routes))
    pages = {(method, path) for method, path in served if method == "GET" and not path.startswith(("/api/", "/v2"))}
    table = {(method, path) for method, path, _ in ROWS}
    assert len(served) > 60
    assert served - pages <= table, f"say in app/access/needs.py who may: {served - pages - table}"
    assert table <= served, f"no such calls: {table - served}"


def test_every_call_of_grpc_is_in_its_table() -> None:
    assert set(needs.GRPC) == {*METHODS, *server._SHARED_MEMORY}


def _path(template: str) -> str:
    return re.sub(r"\{(\w+)(?::path)?\}", lambda found: PLACEHOLDERS.get(found[1], "nothing"), template)


@pytest.mark.parametrize(("method", "template", "scope"), ROWS, ids=[f"{method} {path}" for method, path, _ in ROWS])
def test_a_call_takes_keys_of_its_scope_and_those_above(
    keyed: Keyed, of_scope: dict[Scope, str], method: str, template: str, scope: Scope | None
) -> None:
    path = _path(template)
    without = keyed.send(method, path, follow_redirects=False)
    wrong = keyed.send(method, path, next(iter(of_scope.values()))[:-1] + "x", follow_redirects=False)
    if scope is None:
        assert without.status_code not in {401, 403} or path == "/login"
        return
    for refused in (without, wrong):
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"].startswith("Bearer")
        _check_form(path, refused.json(), refused.headers["Content-Type"])
    for each, key in of_scope.items():
        answer = keyed.send(method, path, key)
        if each.covers(scope):
            assert answer.status_code not in {401, 403, 500}, answer.text
        else:
            assert answer.status_code == 403
            _check_form(path, answer.json(), answer.headers["Content-Type"])
            assert f"needs a key of scope '{scope}'" in answer.text


def _check_form(path: str, answer: dict[str, Any], kind: str) -> None:
    if path.startswith("/v2"):
        assert set(answer) == {"error"}
    else:
        assert kind == "application/problem+json"
        assert {"type", "title", "status", "detail"} <= set(answer)


@pytest.mark.parametrize("path", ["/nothing", "/api/v1/nothing", "/v2/nothing", "/models/m", "/api/v1/models/m/x/y/z"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "OPTIONS"])
def test_what_is_not_there_is_told_to_nobody_without_a_key(
    keyed: Keyed, of_scope: dict[Scope, str], method: str, path: str
) -> None:
    assert keyed.send(method, path).status_code == 401
    assert keyed.send(method, path, of_scope[Scope.admin]).status_code in {404, 405}


@pytest.mark.parametrize("path", ["/api/v1/models", "/api/v1/keys", "/v2/models/m/infer", "/metrics", "/"])
@pytest.mark.parametrize("change", ["/{}", "{}/", "{}/.", "/x/..{}", "%2e{}", "//{}"])
def test_other_ways_to_write_an_address_open_nothing(keyed: Keyed, path: str, change: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert keyed.send(method, "http://localhost/" + change.format(path).lstrip("/")).status_code == 401


def test_words_stand_before_placeholders() -> None:
    found = needs.need_of("GET", "/v2/models/stats")
    assert found is not None
    assert (found.path, found.named) == ("/v2/models/stats", {})
    named = needs.need_of("POST", "/v2/models/m@int8/versions/3/infer")
    assert named is not None
    assert named.named == {"model": "m@int8", "version": "3"}


def test_the_document_says_which_scope_each_call_needs_and_how_it_is_refused(keyed: Keyed) -> None:
    document = keyed.client.get("/openapi.json").json()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "apiKey"}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            scope = needs.scope_of(method.upper(), path)
            if scope is None:
                assert operation["security"] == []
                continue
            assert {"bearer": []} in operation["security"]
            assert f"Needs a key of scope `{scope}`" in operation["description"]
            assert {"401", "403", "429"} <= set(operation["responses"])
