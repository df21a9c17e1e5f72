import errno

import numpy as np
import pytest
from fastapi.testclient import TestClient
from psycopg.errors import DiskFull

from app.registry import OperationalError
from tests import graphs
from tests.app.conftest import Kept, npz_bytes, upload_dataset


def test_a_dataset_is_described(client: TestClient) -> None:
    answer = upload_dataset(client)
    assert answer.status_code == 201
    dataset = answer.json()
    assert dataset["samples"] == 128
    assert dataset["labelled"] is True
    assert dataset["arrays"] == [{"name": "x", "dtype": "FP32", "shape": [128, 16]}]
    assert client.get("/api/v1/datasets/samples").json() == dataset
    assert client.get("/api/v1/datasets").json() == [dataset]


def test_the_same_content_again_is_the_same_dataset_and_other_content_a_conflict(
    client: TestClient, kept: Kept
) -> None:
    first = upload_dataset(client).json()
    before = kept.now()
    assert upload_dataset(client).status_code == 200
    assert upload_dataset(client).json() == first
    refusal = upload_dataset(client, npz_bytes(**graphs.labelled_samples(seed=9)))
    assert refusal.status_code == 409
    assert kept.now() == before


@pytest.mark.parametrize(
    "refused", [OSError(errno.ENOSPC, "No space left on device"), OperationalError("INSERT", {}, DiskFull())]
)
@pytest.mark.parametrize("where", ["app.api.uploads.shutil.copyfileobj", "app.api.datasets.datasets.register"])
def test_a_full_disk_is_said_wherever_it_is_met(
    client: TestClient, kept: Kept, monkeypatch: pytest.MonkeyPatch, refused: Exception, where: str
) -> None:
    def full(*_: object) -> None:
        raise refused

    before = kept.now()
    with monkeypatch.context() as patch:
        patch.setattr(where, full)
        answer = upload_dataset(client)
    assert answer.status_code == 507
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "full" in answer.json()["detail"]
    assert kept.now() == before
    assert upload_dataset(client).status_code == 201


def test_deleting_a_dataset_leaves_nothing(client: TestClient, kept: Kept) -> None:
    before = kept.now()
    upload_dataset(client)
    assert client.delete("/api/v1/datasets/samples").status_code == 204
    assert kept.now() == before
    assert client.get("/api/v1/datasets/samples").status_code == 404


def _with_nan() -> bytes:
    x = np.zeros((4, 3), dtype=np.float32)
    x[2, 1] = np.nan
    return npz_bytes(x=x)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"junk", ""),
        (npz_bytes(x=np.array([{"a": 1}], dtype=object)), "pickle"),
        (_with_nan(), "'x'"),
        (npz_bytes(x=np.zeros((3, 2), np.float32), y=np.zeros((4, 2), np.float32)), "samples"),
    ],
)
def test_a_file_that_is_no_dataset_leaves_nothing(client: TestClient, kept: Kept, content: bytes, words: str) -> None:
    before = kept.now()
    answer = client.post("/api/v1/datasets", files={"file": ("d.npz", content)}, data={"name": "d"})
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert words in answer.json()["detail"]
    assert kept.now() == before


def test_a_name_outside_the_pattern_is_refused(client: TestClient) -> None:
    answer = upload_dataset(client, name="a/b")
    assert answer.status_code == 422
    assert answer.json()["field"] == "name"
