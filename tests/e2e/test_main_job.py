"""The road: upload, quantize, compare, serve."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import httpx
import numpy as np
import onnxruntime
import pytest

from tests import graphs
from tests.e2e.conftest import npz
from tests.e2e.service import Service
from tests.servers import missing


def curl(*arguments: str) -> dict[str, object]:
    if shutil.which("curl") is None:
        missing("curl")
    done = subprocess.run(["curl", "-sS", "--fail-with-body", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_curl_uploads_a_model_and_three_variants_appear(
    service: Service, model_bytes: bytes, dataset_bytes: bytes, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(model_bytes)
    (tmp_path / "samples.npz").write_bytes(dataset_bytes)
    api = f"{service.url}/api/v1"
    curl("-F", f"file=@{tmp_path}/samples.npz", "-F", "name=samples", f"{api}/datasets")
    quantize = ["-F", "dataset=samples", "-F", "quantize=fp16,dynamic,int8"]
    model = curl("-F", f"file=@{tmp_path}/model.onnx", "-F", "name=model", *quantize, f"{api}/models")
    for job in model["jobs"]:  # type: ignore[attr-defined]
        ended = service.finished(job["id"])
        assert ended["state"] == "succeeded", ended
        assert ended["attempts"] == 1
    rows = service.variants()
    assert set(rows) == {"original", "fp16", "dynamic", "int8"}
    assert sorted(row["version"] for row in rows.values()) == [1, 2, 3, 4]
    for label, row in rows.items():
        assert row["samples"] > 0
        assert 0 <= row["accuracy"] <= 1
        assert row["latency_ms"]["p50"] > 0
        if label != "original":
            assert row["verdict"] == "accepted"
            assert row["agreement"] > 0.9
            assert row["speedup_low"] <= row["speedup"] <= row["speedup_high"]
            _check_report(service, label)
        _check_artifact_answers_as_served(service, label, tmp_path)
    assert service.leftovers() == []


def _check_report(service: Service, label: str) -> None:
    url = f"/api/v1/models/model/variants/{label}/report"
    report = service.http.get(url).json()["report"]
    assert report["layers"]
    page = service.http.get(url, headers={"Accept": "text/html"})
    assert page.headers["Content-Type"].startswith("text/html")
    assert label in page.text


def _check_artifact_answers_as_served(service: Service, label: str, folder: Path) -> None:
    artifact = service.http.get(f"/api/v1/models/model/variants/{label}/artifact")
    assert artifact.headers["ETag"].strip('"') == hashlib.sha256(artifact.content).hexdigest()
    path = folder / f"{label}.onnx"
    path.write_bytes(artifact.content)
    image = np.random.default_rng(3).normal(size=(2, 3, 8, 8)).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(path).run(None, {"image": image})
    answer = service.http.post(
        f"/v2/models/model/versions/{label}/infer",
        json={"inputs": [{"name": "image", "shape": [2, 3, 8, 8], "datatype": "FP32", "data": image.ravel().tolist()}]},
    )
    assert answer.headers["X-Model-Variant"] == label
    np.testing.assert_allclose(
        np.array(answer.json()["outputs"][0]["data"]).reshape(2, 4), expected, rtol=1e-4, atol=1e-4
    )


def test_events_tell_the_stages_in_order_and_end(embedded: Service, model_bytes: bytes, dataset_bytes: bytes) -> None:
    embedded.upload_dataset(dataset_bytes)
    embedded.upload_model(model_bytes)
    job_id = embedded.submit(method="int8", dataset="samples")
    progress: list[float] = []
    stages: list[str] = []
    with httpx.stream("GET", f"{embedded.url}/api/v1/jobs/{job_id}/events", timeout=60) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                progress.append(event["progress"])
                if event["stage"] not in stages:
                    stages.append(event["stage"])
    assert progress == sorted(progress)
    assert stages[0] == "queued"
    assert stages[-1] == "done"
    known = ["queued", "starting", "prepare", "calibrate", "quantize", "gate", "evaluate", "done"]
    assert stages == [stage for stage in known if stage in stages]


def test_without_a_dataset_what_cannot_be_measured_is_null(embedded: Service, model_bytes: bytes) -> None:
    embedded.upload_model(model_bytes)
    assert embedded.finished(embedded.submit(method="fp16"))["state"] == "succeeded"
    row = embedded.variants()["fp16"]
    assert row["accuracy"] is None
    assert row["agreement"] is None
    assert row["latency_ms"]["p50"] > 0
    assert row["size_ratio"] < 1


def test_a_default_is_switched_under_traffic_without_a_failed_request(
    embedded: Service, model_bytes: bytes, dataset_bytes: bytes
) -> None:
    embedded.upload_dataset(dataset_bytes)
    embedded.upload_model(model_bytes)
    embedded.finished(embedded.submit(method="int8", dataset="samples"))
    message = {"inputs": [{"name": "image", "shape": [1, 3, 8, 8], "datatype": "FP32", "data": [0.1] * 192}]}
    seen = []
    for turn in range(60):
        if turn % 20 == 10:
            wanted = "int8" if turn == 10 else "original"
            answer = embedded.http.put("/api/v1/models/model/default", json={"variant": wanted})
            assert answer.status_code == 200
        answer = embedded.http.post("/v2/models/model/infer", json=message)
        assert answer.status_code == 200
        seen.append(answer.headers["X-Model-Variant"])
    assert seen == ["original"] * 10 + ["int8"] * 20 + ["original"] * 30


def test_several_inputs_and_token_ids_are_quantized_and_served(embedded: Service) -> None:
    model = graphs.two_token_inputs()
    random = np.random.default_rng(0)
    arrays = {
        "ids": random.integers(0, 50, size=(64, 6)),
        "mask": np.ones((64, 6), dtype=np.int64),
    }
    embedded.upload_dataset(npz(**arrays))
    answer = embedded.upload_model(model.SerializeToString(), dataset="samples", quantize="fp16,dynamic,int8")
    for job in answer["jobs"]:
        ended = embedded.finished(job["id"])
        assert ended["state"] == "succeeded", ended
    for label, row in embedded.variants().items():
        assert row["accuracy"] is None
        if label != "original":
            assert row["cosine"] > 0.95
        inputs = [
            {"name": name, "shape": [1, 6], "datatype": "INT64", "data": array[0].tolist()}
            for name, array in arrays.items()
        ]
        answer = embedded.http.post(f"/v2/models/model@{label}/infer", json={"inputs": inputs})
        assert answer.status_code == 200, answer.text


SHARED = Path(__file__).parents[2].parent / "shared" / "models"


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="the real models are not beside this checkout")
def test_real_resnet_keeps_its_accuracy_and_gains_speed_as_int8(embedded: Service) -> None:
    embedded.upload_dataset((SHARED / "cifar10_2000.npz").read_bytes())
    model = embedded.upload_model(
        (SHARED / "cifar10_resnet20.onnx").read_bytes(), dataset="samples", quantize="fp16,int8"
    )
    for job in model["jobs"]:
        assert embedded.finished(job["id"])["state"] == "succeeded"
    rows = embedded.variants()
    assert rows["original"]["accuracy"] == pytest.approx(0.8385, abs=0.02)
    assert rows["int8"]["accuracy_ratio"] > 0.99
    assert rows["int8"]["agreement"] > 0.95
    assert rows["int8"]["size_ratio"] < 0.35
    assert rows["fp16"]["agreement"] > 0.999
    assert rows["fp16"]["size_ratio"] < 0.55
