"""Sequences of different length, asked for at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import graphs
from tests.e2e.conftest import npz
from tests.e2e.service import Service
from tests.worker import models
from tests.worker.runtime import run

LENGTHS = (20, 17, 19, 18, 20, 19)


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that waits for all of `LENGTHS` to come together."""
    delay = {"OCTET_MAX_BATCH_DELAY_US": "20000000", "OCTET_MAX_BATCH_ROWS": str(len(LENGTHS))}
    service = Service(tmp_path_factory.mktemp("patient") / "home", delay)
    service.start()
    yield service
    service.stop()


def sentence(length: int) -> dict[str, Any]:
    ids = np.random.default_rng(length).integers(1, 300, (1, length))
    return {"ids": ids, "mask": np.ones_like(ids)}


def asked(service: Service, variant: str, length: int) -> Any:
    inputs = [
        {"name": name, "shape": [1, length], "datatype": "INT64", "data": values.tolist()}
        for name, values in sentence(length).items()
    ]
    answer = service.http.post(f"/v2/models/{variant}/infer", json={"inputs": inputs})
    assert answer.status_code == 200, answer.text
    (tensor,) = answer.json()["outputs"]
    return np.array(tensor["data"]).reshape(tensor["shape"])


@pytest.mark.parametrize(("output", "proved"), [("mean", True), ("tokens", True), ("plain mean", False)])
def test_each_gets_the_answer_that_it_gets_alone(patient: Service, tmp_path: Path, output: str, proved: bool) -> None:
    name = output.replace(" ", "-")
    patient.upload_dataset(npz(**models.token_arrays(64, 12)), name=f"{name}-samples")
    patient.upload_model(graphs.masked_attention(vocabulary=300, output=output).SerializeToString(), name=name)
    job = patient.finished(patient.submit(model=name, method="int8", dataset=f"{name}-samples"))
    assert job["state"] == "succeeded", job
    for label, row in patient.variants(name).items():
        assert row["paddable"] is proved
        artifact = tmp_path / f"{label}.onnx"
        artifact.write_bytes(patient.http.get(row["files"][0]["url"]).content)
        with ThreadPoolExecutor(len(LENGTHS)) as clients:
            answers = list(clients.map(partial(asked, patient, f"{name}@{label}"), LENGTHS))
        for length, answer in zip(LENGTHS, answers, strict=True):
            (alone,) = run(artifact, sentence(length))
            np.testing.assert_allclose(answer, alone, rtol=1e-4, atol=1e-5)
        (counted,) = patient.http.get(f"/v2/models/{name}/versions/{label}/stats").json()["model_stats"]
        # Those of equal length are joined in any case.
        assert max(batch["batch_size"] for batch in counted["batch_stats"]) == (len(LENGTHS) if proved else 2)


def test_the_report_says_why_not(patient: Service) -> None:
    patient.upload_model(graphs.two_token_inputs().SerializeToString(), name="counted")
    job = patient.finished(patient.submit(model="counted", method="evaluate"))
    assert job["state"] == "succeeded", job
    path = "/api/v1/models/counted/variants/original/report"
    report = patient.http.get(path).json()
    assert report["variant"]["paddable"] is report["report"]["paddable"] is False
    (note,) = [note for note in report["report"]["notes"] if "padding" in note]
    assert note in patient.http.get(path, headers={"Accept": "text/html"}).text
