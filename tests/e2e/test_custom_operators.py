"""Operators that ONNX does not have, where their domain is allowed: in each confined process. Real processes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import graphs
from tests.custom_operators import LIBRARY
from tests.e2e.conftest import npz
from tests.e2e.service import Service

METHODS = ("fp16", "dynamic", "int8", "mixed", "int4")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    allowed = {"OCTET_CUSTOM_OPERATORS": f"ai.onnx.contrib={LIBRARY}", "OCTET_ISOLATE": "1"}
    made = Service(tmp_path / "home", allowed)
    made.start()
    yield made
    made.stop()


def _answer(service: Service, variant: str, x: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> list[float]:
    tensor = {"name": "x", "datatype": "FP32", "shape": list(x.shape), "data": x.ravel().tolist()}
    answer = service.http.post(f"/v2/models/model/versions/{variant}/infer", json={"inputs": [tensor]})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["outputs"][0]["data"])


def test_a_model_of_operators_that_are_allowed_is_quantized_and_served(service: Service) -> None:
    service.upload_dataset(npz(**graphs.labelled_samples(samples=200, shape=(64,))))
    service.upload_model(graphs.custom_operator().SerializeToString())
    jobs = {method: service.submit(method=method, dataset="samples") for method in METHODS}
    ended = {method: service.finished(job) for method, job in jobs.items()}
    assert {method: (job["state"], job["error"]) for method, job in ended.items()} == dict.fromkeys(
        METHODS, ("succeeded", None)
    )
    x = np.random.default_rng(5).normal(size=(3, 64)).astype(np.float32)
    first, second, leak = (
        np.frombuffer(tensor.raw_data, np.float32).reshape(tensor.dims)
        for tensor in graphs.custom_operator().graph.initializer
    )
    hidden = x @ first
    true = (np.where(hidden > 0, hidden, leak * hidden) @ second).ravel()
    for variant in service.variants():
        np.testing.assert_allclose(_answer(service, variant, x), true, atol=0.4, err_msg=variant)
