import json
import zipfile

import numpy as np
import onnx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, event

from app.logs import REQUEST_ID
from tests import graphs
from tests.app.conftest import Kept, npz_bytes, onnx_bytes, upload_dataset, upload_model
from tests.app.intake.archives import zip_of, zip_with_link


def test_an_upload_is_described(client: TestClient) -> None:
    answer = upload_model(client, labels='["cat", "dog", "eel", "fox"]')
    assert answer.status_code == 201
    assert answer.headers["Location"] == "/api/v1/models/linear"
    model = answer.json()
    assert model["revision"] == 1
    assert model["opset"] == 17
    assert model["size_bytes"] == len(onnx_bytes())
    assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 16]}]
    assert model["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 4]}]
    assert model["labels"] == ["cat", "dog", "eel", "fox"]
    assert model["default_variant"] == "original"
    assert model["jobs"] == []
    assert client.get("/api/v1/models/linear").json() == model
    assert client.get("/api/v1/models/linear/revisions/1").json() == model
    assert client.get("/api/v1/models").json() == [model]


def test_the_same_bytes_again_are_the_same_revision(client: TestClient, kept: Kept) -> None:
    first = upload_model(client).json()
    before = kept.now()
    again = upload_model(client)
    assert again.status_code == 200
    assert again.json() == first
    assert kept.now() == before


def test_new_bytes_are_a_new_revision(client: TestClient) -> None:
    upload_model(client)
    second = upload_model(client, onnx_bytes(graphs.linear_classifier(seed=5)))
    assert second.status_code == 201
    assert second.json()["revision"] == 2
    rows = client.get("/api/v1/models/linear/variants").json()
    assert [(row["variant"], row["version"], row["revision"]) for row in rows] == [
        ("original", 1, 1),
        ("original", 2, 2),
    ]


def test_quantize_on_upload_queues_a_job_for_each_method(client: TestClient) -> None:
    upload_dataset(client)
    answer = upload_model(client, dataset="samples", quantize="fp16, dynamic,int8")
    assert answer.status_code == 201
    jobs = answer.json()["jobs"]
    assert [(job["method"], job["state"], job["variant"]) for job in jobs] == [
        ("fp16", "queued", "fp16"),
        ("dynamic", "queued", "dynamic"),
        ("int8", "queued", "int8"),
    ]
    again = upload_model(client, dataset="samples", quantize="fp16,int8")
    assert again.status_code == 200
    assert again.json()["jobs"] == jobs


def test_deleting_a_model_leaves_nothing(client: TestClient, kept: Kept) -> None:
    before = kept.now()
    upload_model(client)
    assert client.post("/v2/models/linear/infer", json=_request()).status_code == 200
    assert client.delete("/api/v1/models/linear").status_code == 204
    assert kept.now() == before
    assert client.get("/api/v1/models/linear").status_code == 404
    assert client.post("/v2/models/linear/infer", json=_request()).status_code == 404


def test_bytes_shared_by_two_models_stay_until_the_last_goes(client: TestClient) -> None:
    upload_model(client, name="one")
    upload_model(client, name="two")
    client.delete("/api/v1/models/one")
    assert client.post("/v2/models/two/infer", json=_request()).status_code == 200
    assert client.get("/api/v1/models/two/variants/original/artifact").content == onnx_bytes()


def test_a_model_with_a_live_job_is_not_deleted(client: TestClient) -> None:
    job = upload_model(client, quantize="fp16").json()["jobs"][0]
    refusal = client.delete("/api/v1/models/linear")
    assert refusal.status_code == 409
    assert job["id"] in refusal.json()["detail"]
    client.delete(f"/api/v1/jobs/{job['id']}")
    assert client.delete("/api/v1/models/linear").status_code == 204


def test_the_default_is_chosen_by_label_or_version(client: TestClient) -> None:
    upload_model(client)
    upload_model(client, onnx_bytes(graphs.linear_classifier(seed=5)))
    assert client.get("/v2/models/linear/config").json()["version_policy"] == {"specific": {"versions": [1]}}
    chosen = client.put("/api/v1/models/linear/default", json={"variant": "original"})
    assert chosen.json() == {"model": "linear", "variant": "original", "version": 2}
    assert client.post("/v2/models/linear/infer", json=_request()).json()["model_version"] == "2"
    client.put("/api/v1/models/linear/default", json={"variant": "1"})
    assert client.post("/v2/models/linear/infer", json=_request()).json()["model_version"] == "1"


def test_an_artifact_is_served_whole_in_part_or_not_at_all(client: TestClient) -> None:
    upload_model(client)
    url = "/api/v1/models/linear/variants/original/artifact"
    whole = client.get(url)
    assert whole.content == onnx_bytes()
    digest = client.get("/api/v1/models/linear").json()["digest"]
    assert whole.headers["ETag"] == f'"{digest}"'
    part = client.get(url, headers={"Range": "bytes=10-19"})
    assert part.status_code == 206
    assert part.content == onnx_bytes()[10:20]
    assert client.get(url, headers={"If-None-Match": whole.headers["ETag"]}).status_code == 304
    assert client.get(f"{url}/data").status_code == 404


def test_the_original_and_the_default_are_not_deleted(client: TestClient) -> None:
    upload_model(client)
    upload_model(client, onnx_bytes(graphs.linear_classifier(seed=5)))
    for version, words in (("1", "default"), ("2", "original")):
        refusal = client.delete(f"/api/v1/models/linear/variants/{version}")
        assert refusal.status_code == 409
        assert words in refusal.json()["detail"]


@pytest.mark.parametrize(
    ("fields", "status", "field", "words"),
    [
        ({"name": "No Capitals"}, 422, "name", "a-z"),
        ({"name": "../etc"}, 422, "name", "a-z"),
        ({"name": "a" * 64}, 422, "name", "63"),
        ({"name": ""}, 422, "name", ""),
        ({"name": "stats"}, 422, "name", "protocol"),
        ({"name": "m", "labels": "cat"}, 422, "labels", "JSON"),
        ({"name": "m", "labels": '{"a": 1}'}, 422, "labels", "list"),
        ({"name": "m", "dataset": "nowhere"}, 404, "dataset", "nowhere"),
        ({"name": "m", "quantize": "int3"}, 422, "method", "fp16"),
        ({"name": "m", "quantize": "int8,bogus"}, 422, "method", "evaluate"),
        ({"name": "m", "quantize": "fp16,int8"}, 422, "dataset", "calibrates"),
    ],
)
def test_a_wrong_field_is_named_and_leaves_nothing(
    client: TestClient, kept: Kept, fields: dict[str, str], status: int, field: str, words: str
) -> None:
    before = kept.now()
    answer = client.post("/api/v1/models", files={"file": ("model.onnx", onnx_bytes())}, data=fields)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["field"] == field
    assert words in problem["detail"]
    assert kept.now() == before


@pytest.mark.parametrize(
    ("filename", "content", "words"),
    [
        ("model.onnx", b"", "empty"),
        ("model.onnx", b"not a model at all", "ONNX"),
        ("model.onnx", onnx_bytes()[:-40], ""),
        ("model.pt", onnx_bytes(), ".onnx"),
        ("model.zip", b"PK\x03\x04 broken", ""),
        ("model.onnx", onnx_bytes(graphs.beyond_the_engine()), "failed to load"),
    ],
)
def test_a_file_that_is_no_model_leaves_nothing(
    client: TestClient, kept: Kept, filename: str, content: bytes, words: str
) -> None:
    before = kept.now()
    answer = client.post("/api/v1/models", files={"file": (filename, content)}, data={"name": "m", "quantize": "fp16"})
    assert answer.status_code == 422
    assert answer.json()["field"] == "file"
    assert words in answer.json()["detail"]
    assert kept.now() == before


WEIGHT = b"\x00" * 256


# Hostile input; the checks themselves are tested in `tests/app/intake`.
@pytest.mark.e2e
@pytest.mark.parametrize(
    ("archive", "status", "words"),
    [
        (zip_of({"m.onnx": onnx_bytes(graphs.with_external_weight("../w.bin")), "w.bin": WEIGHT}), 422, "../w.bin"),
        (zip_of({"m.onnx": onnx_bytes(graphs.with_external_weight("/etc/passwd"))}), 422, "/etc/passwd"),
        (zip_of({"m.onnx": onnx_bytes(graphs.with_external_weight("gone.bin"))}), 422, "gone.bin"),
        (zip_of({"../m.onnx": onnx_bytes()}), 422, "../m.onnx"),
        (zip_of({"a.onnx": onnx_bytes(), "b.onnx": onnx_bytes()}), 422, "exactly one"),
        (
            zip_with_link(
                {"m.onnx": onnx_bytes(graphs.with_external_weight("w.bin"))}, name="w.bin", target="/etc/passwd"
            ),
            422,
            "link",
        ),
        (
            zip_of({"m.onnx": onnx_bytes(), "zeros": b"\x00" * 100_000_000}, compression=zipfile.ZIP_DEFLATED),
            413,
            "",
        ),
    ],
    ids=["data above", "data anywhere", "data missing", "member above", "two models", "symlink", "zip bomb"],
)
def test_an_archive_that_reaches_out_leaves_nothing(
    client: TestClient, kept: Kept, archive: bytes, status: int, words: str
) -> None:
    before = kept.now()
    answer = client.post("/api/v1/models", files={"file": ("m.zip", archive)}, data={"name": "m"})
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert words in answer.json()["detail"]
    assert kept.now() == before


def test_an_archive_with_its_external_data_is_served(client: TestClient) -> None:
    archive = zip_of({"m.onnx": onnx_bytes(graphs.with_external_weight("w.bin")), "w.bin": WEIGHT})
    answer = client.post("/api/v1/models", files={"file": ("m.zip", archive)}, data={"name": "m"})
    assert answer.status_code == 201, answer.text
    logits = client.post("/v2/models/m/infer", json=_request()).json()["outputs"][0]["data"]
    bias = linear_bias()
    assert logits == pytest.approx(bias, abs=1e-6)


def linear_bias() -> list[float]:
    """What is left of the classifier when its weight is all zeros."""
    bias = next(tensor for tensor in graphs.linear_classifier().graph.initializer if tensor.name == "bias")
    return [float(value) for value in onnx.numpy_helper.to_array(bias)]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"y": np.zeros((4, 16), np.float32)}, "'x'"),
        ({"x": np.zeros((4, 16), np.float64)}, "FP64"),
        ({"x": np.zeros((4, 2, 16), np.float32)}, "'x'"),
        ({"x": np.zeros((4, 15), np.float32)}, "15"),
    ],
    ids=["name", "dtype", "rank", "size"],
)
def test_a_job_whose_dataset_does_not_fit_is_refused(
    client: TestClient, kept: Kept, arrays: dict[str, object], words: str
) -> None:
    upload_model(client)
    upload_dataset(client, npz_bytes(**arrays), name="misfit")
    before = kept.now()
    answer = client.post("/api/v1/jobs", json={"model": "linear", "method": "int8", "dataset": "misfit"})
    assert answer.status_code == 422
    assert answer.json()["field"] == "dataset"
    assert words in answer.json()["detail"]
    assert kept.now() == before


def test_a_dataset_that_does_not_fit_the_model_is_refused_with_the_upload(client: TestClient, kept: Kept) -> None:
    upload_dataset(client, npz_bytes(y=graphs.labelled_samples()["x"]), name="other")
    before = kept.now()
    answer = upload_model(client, dataset="other", quantize="int8")
    assert answer.status_code == 422
    assert answer.json()["field"] == "dataset"
    assert "'x'" in answer.json()["detail"]
    assert kept.now() == before


def test_an_upload_over_the_limit_is_refused(client: TestClient, kept: Kept) -> None:
    before = kept.now()
    answer = upload_model(client, b"\x00" * (5 * 1024**2))
    assert answer.status_code == 413
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert kept.now() == before


def test_a_missing_file_or_name_is_said(client: TestClient) -> None:
    assert client.post("/api/v1/models", data={"name": "m"}).json()["field"] == "file"
    assert client.post("/api/v1/models", files={"file": ("m.onnx", onnx_bytes())}).json()["field"] == "name"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/models/nothing", 404),
        ("GET", "/api/v1/models/nothing/variants", 404),
        ("DELETE", "/api/v1/models/nothing", 404),
        ("GET", "/api/v1/models/linear/revisions/9", 404),
        ("GET", "/api/v1/models/linear/revisions/x", 422),
        ("GET", "/api/v1/models/linear/revisions/99999999999999999999", 422),
        ("GET", "/api/v1/models/linear/variants/int8", 404),
        ("GET", "/api/v1/models/linear/variants/original/report", 404),
        ("GET", "/api/v1/nowhere", 404),
        ("PATCH", "/api/v1/models", 405),
    ],
)
def test_what_is_not_there_is_a_problem_with_a_sentence(
    client: TestClient, method: str, path: str, status: int
) -> None:
    upload_model(client)
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert len(answer.json()["detail"]) > 15


@pytest.mark.parametrize(
    ("path", "offered"),
    [
        ("/api/v1/models", {"GET", "POST"}),
        ("/api/v1/models/linear", {"GET", "DELETE"}),
        ("/v2/logging", {"GET", "POST"}),
        ("/v2/models/linear/infer", {"POST"}),
    ],
)
def test_a_method_that_is_not_offered_is_answered_with_all_that_are(
    client: TestClient, path: str, offered: set[str]
) -> None:
    answer = client.patch(path)
    assert answer.status_code == 405
    assert {*answer.headers["Allow"].split(", ")} == offered


def test_a_default_that_does_not_exist_is_refused(client: TestClient) -> None:
    upload_model(client)
    answer = client.put("/api/v1/models/linear/default", json={"variant": "int8"})
    assert answer.status_code == 404
    assert "original" in answer.json()["detail"]
    assert client.put("/api/v1/models/linear/default", json={}).status_code == 422


def _request() -> dict[str, object]:
    return {"inputs": [{"name": "x", "shape": [1, 16], "datatype": "FP32", "data": [0.5] * 16}]}


def test_names_with_dots_and_dashes_are_names(client: TestClient) -> None:
    assert upload_model(client, name="a.b-c_1").status_code == 201
    assert client.get("/v2/models/a.b-c_1").json()["name"] == "a.b-c_1"
    assert json.loads(client.get("/v2/models/a.b-c_1@original").text)["name"] == "a.b-c_1"


def test_the_list_asks_the_registry_as_often_for_many_models_as_for_one(client: TestClient) -> None:
    statements: list[str] = []

    def listed() -> list[dict[str, object]]:
        statements.clear()
        models: list[dict[str, object]] = client.get("/api/v1/models").json()
        return models

    @event.listens_for(Engine, "before_cursor_execute")
    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        # Periodic threads of the gateway query the registry too, but not for a request.
        if REQUEST_ID.get():
            statements.append(statement)

    try:
        upload_dataset(client)
        upload_model(client, name="a", dataset="samples", quantize="fp16")
        one = listed()
        asked = len(statements)
        upload_model(client, onnx_bytes(graphs.linear_classifier(seed=1)), name="a")
        for name in ("b", "c", "d"):
            upload_model(client, name=name, dataset="samples", quantize="fp16,int8")
        many = listed()
    finally:
        event.remove(Engine, "before_cursor_execute", count)
    assert len(statements) == asked
    assert [(each["name"], each["revision"]) for each in many] == [("a", 2), ("b", 1), ("c", 1), ("d", 1)]
    assert many == [client.get(f"/api/v1/models/{each['name']}").json() for each in many]
    assert one[0]["jobs"]
