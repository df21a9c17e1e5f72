"""A second engine, in a package of its own: upload, jobs and inference run on it, in the real processes."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests import graphs
from tests.e2e.installed import installed
from tests.e2e.service import Service
from tests.engine_package import octet_reference

PACKAGE = Path(octet_reference.__file__).parent


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path / "home", {"OCTET_ENGINE": "reference"})
    with installed(PACKAGE):
        try:
            service.start()
            yield service
        finally:
            service.stop()


def _answer(service: Service, version: int, x: np.ndarray) -> np.ndarray:
    request = {"inputs": [{"name": "x", "shape": x.shape, "datatype": "FP32", "data": x.ravel().tolist()}]}
    answer = service.http.post(f"/v2/models/model/versions/{version}/infer", json=request)
    assert answer.status_code == 200, answer.text
    (output,) = answer.json()["outputs"]
    return np.array(output["data"], np.float32).reshape(output["shape"])


def test_upload_jobs_and_inference_run_on_another_engine(service: Service, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(128, 16)).astype(np.float32)
    samples = io.BytesIO()
    np.savez(samples, x=x, labels=random.integers(0, 4, 128))
    service.upload_dataset(samples.getvalue())
    service.upload_model(graphs.linear_classifier().SerializeToString())
    for method in ("dynamic", "int8"):
        job = service.finished(service.submit(method=method, dataset="samples"))
        assert (job["state"], job["error"]) == ("succeeded", None)

    variants = service.variants()
    assert {label: row["engine"] for label, row in variants.items()} == dict.fromkeys(
        ("original", "dynamic", "int8"), "reference"
    )
    assert service.http.get("/v2/models/model/config").json()["backend"] == "reference"
    for label, row in variants.items():
        artifact = tmp_path / f"{label}.onnx"
        artifact.write_bytes(service.http.get(f"/api/v1/models/model/variants/{label}/artifact").content)
        alone = octet_reference.ReferenceEngine().load(artifact, intra_op_threads=1)
        np.testing.assert_array_equal(_answer(service, row["version"], x[:3]), alone.run({"x": x[:3]})[0])

    report = service.http.get("/api/v1/models/model/variants/int8/report").json()["report"]
    assert report["latency"]["engine"] == "reference"
    assert report["versions"]["reference"] == onnx.__version__
    assert report["portability"] is None
    assert any("does not add products in 16 bits" in note for note in report["notes"])

    mixed = service.finished(service.submit(method="mixed", dataset="samples"))
    assert mixed["state"] == "failed"
    assert "needs an engine that measures single kernels, and 'reference' does not" in mixed["error"]


def test_the_check_of_an_upload_runs_on_it(service: Service) -> None:
    # onnxruntime has this operator, and the reference evaluator does not.
    proto = graphs.linear_classifier()
    (node,) = (node for node in proto.graph.node if node.output[0] == proto.graph.output[0].name)
    node.output[0] = "plain"
    gelu = onnx.helper.make_node("Gelu", ["plain"], [proto.graph.output[0].name], domain="com.microsoft")
    proto.graph.node.append(gelu)
    proto.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    file = {"file": ("model.onnx", proto.SerializeToString())}
    refused = service.http.post("/api/v1/models", files=file, data={"name": "model"})
    assert refused.status_code == 422
    assert "the reference evaluator failed to load the model" in refused.json()["detail"]
