"""What holds for each page."""

import re

import pytest
from fastapi.testclient import TestClient

from app.settings import Settings
from tests.app.conftest import upload_dataset, upload_model
from tests.app.web.counted import counted_experiment
from tests.app.web.markup import Page

pytestmark = pytest.mark.e2e

PAGES = [
    *("/", "/models/linear", "/models/linear/quantize", "/models/linear/try", "/models/linear/experiments"),
    *("/jobs", "/datasets", "/experiments", "/system"),
]


@pytest.fixture
def filled(client: TestClient) -> TestClient:
    upload_dataset(client)
    upload_model(client, quantize="dynamic", dataset="samples")
    return client


@pytest.fixture(params=[*PAGES, "job", "experiment", "/models/none"])
def path(request: pytest.FixtureRequest, filled: TestClient, settings: Settings) -> str:
    if request.param == "job":
        return f"/jobs/{filled.get('/api/v1/jobs').json()[0]['id']}"
    if request.param == "experiment":
        return f"/experiments/{counted_experiment(filled, settings)}"
    wanted: str = request.param
    return wanted


def test_a_page_keeps_to_a_strict_policy(filled: TestClient, path: str) -> None:
    answer = filled.get(path)
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    shown = Page(answer.text)
    assert not {"style", "iframe", "object", "base"} & set(shown.tags)
    assert not any(name == "style" or re.match(r"on|hx-on", name) for name, _ in shown.attributes)
    assert all(re.match(r"/(?!/)|#", link) for link in shown.links)
    sources = [value for name, value in shown.attributes if name == "src"]
    assert all(source.startswith("/static/") for source in sources)


def test_nothing_that_a_page_leads_to_is_missing(filled: TestClient, path: str) -> None:
    shown = Page(filled.get(path).text)
    reached = {link for link in shown.links if link.startswith("/")}
    reached |= {value for name, value in shown.attributes if name in {"src", "hx-get"}}
    assert {link: filled.get(link).status_code for link in reached} == dict.fromkeys(reached, 200)


def test_names_of_parts_are_unique_and_fields_have_labels(filled: TestClient, path: str) -> None:
    shown = Page(filled.get(path).text)
    ids = [value for name, value in shown.attributes if name == "id"]
    assert sorted(ids) == sorted(set(ids))
    told = {each for name, value in shown.attributes if name in {"for", "aria-labelledby"} for each in value.split()}
    told |= {each for name, value in shown.attributes if name == "aria-describedby" for each in value.split()}
    assert told <= set(ids)


def test_what_is_not_there_is_a_page_for_people(client: TestClient) -> None:
    answer = client.get("/models/none")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "none" in Page(answer.text).text


@pytest.mark.parametrize("name", ["octet.css", "octet.js", "charts.js", "vendor/htmx/htmx.min.js"])
def test_files_of_pages_need_nothing_from_elsewhere(client: TestClient, name: str) -> None:
    answer = client.get(f"/static/{name}")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert not re.search(r"url\(|@import|from \"https?:", answer.text)


def test_what_is_vendored_comes_with_its_licence(client: TestClient) -> None:
    for name in ("htmx", "htmx-ext-sse", "uplot"):
        assert client.get(f"/static/vendor/{name}/LICENSE").status_code == 200


def test_pages_are_no_part_of_the_api(client: TestClient) -> None:
    assert not {"/", "/jobs", "/datasets"} & client.get("/openapi.json").json()["paths"].keys()
