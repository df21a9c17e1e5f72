import re

import httpx
import pytest
from fastapi.testclient import TestClient

from app.settings import Settings
from tests.hostile.files import DATASETS, MODELS, BadFile

pytestmark = pytest.mark.usefixtures("unharmed")


def check(answer: httpx.Response, bad: BadFile, settings: Settings) -> None:
    assert answer.status_code == bad.status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert re.search(bad.words, problem["detail"])
    assert problem["field"] == "file"
    for inside in (str(settings.home), "Traceback", "site-packages"):
        assert inside not in answer.text


@pytest.mark.parametrize("bad", MODELS, ids=[bad.what for bad in MODELS])
def test_no_bad_file_becomes_a_model(client: TestClient, settings: Settings, bad: BadFile) -> None:
    files = {"file": (bad.filename, bad.content)}
    check(client.post("/api/v1/models", files=files, data={"name": "attack"}), bad, settings)


@pytest.mark.parametrize("bad", DATASETS, ids=[bad.what for bad in DATASETS])
def test_no_bad_file_becomes_a_dataset(client: TestClient, settings: Settings, bad: BadFile) -> None:
    files = {"file": (bad.filename, bad.content)}
    check(client.post("/api/v1/datasets", files=files, data={"name": "attack"}), bad, settings)
