import re

import httpx
import pytest
from fastapi.testclient import TestClient

from app.settings import Settings
from tests.hostile import files
from tests.hostile.files import BadFile

pytestmark = pytest.mark.usefixtures("unharmed")


def rows(bad_files: list[BadFile]) -> list[object]:
    """In `make test`, one in four of those that the readers' own tests refuse, and all others."""
    return [
        pytest.param(bad, id=bad.what, marks=pytest.mark.slow if bad.elsewhere and number % 4 else ())
        for number, bad in enumerate(bad_files)
    ]


def check(answer: httpx.Response, bad: BadFile, settings: Settings) -> None:
    assert answer.status_code == bad.status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert re.search(bad.words, problem["detail"])
    assert problem["field"] == "file"
    for inside in (str(settings.home), "Traceback", "site-packages"):
        assert inside not in answer.text


@pytest.mark.parametrize("bad", rows(files.MODELS))
def test_no_bad_file_becomes_a_model(client: TestClient, settings: Settings, bad: BadFile) -> None:
    sent = {"file": (bad.filename, bad.content)}
    check(client.post("/api/v1/models", files=sent, data={"name": "attack"}), bad, settings)


@pytest.mark.parametrize("bad", rows(files.DATASETS))
def test_no_bad_file_becomes_a_dataset(client: TestClient, settings: Settings, bad: BadFile) -> None:
    sent = {"file": (bad.filename, bad.content)}
    check(client.post("/api/v1/datasets", files=sent, data={"name": "attack"}), bad, settings)
