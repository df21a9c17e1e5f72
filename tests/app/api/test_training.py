"""What a job `qat` is refused for before it is queued."""

import subprocess
import sys

import pytest
from fastapi.testclient import TestClient
from onnx import helper, numpy_helper

from app.contracts import methods
from app.registry import Database
from app.registry.tables import Revision
from app.settings import Settings
from tests import graphs
from tests.app.conftest import Kept, onnx_bytes, upload_dataset, upload_model
from tests.worker.models import normal

pytestmark = pytest.mark.e2e

QAT = {"model": "linear", "method": "qat", "dataset": "samples"}


@pytest.fixture(params=[True])
def torch_installed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """As if torch were installed, or by parameter were not."""
    found = object() if request.param else None
    monkeypatch.setattr(methods.importlib.util, "find_spec", lambda name: found if name == "torch" else None)
    return bool(request.param)


def with_determinant(*, name: str) -> bytes:
    """`linear_classifier`, and the determinant of its weight beside it: nobody trains through that."""
    model = graphs.linear_classifier()
    model.graph.node.insert(0, helper.make_node("Det", ["square"], ["det"], name=name))
    model.graph.node.append(helper.make_node("Add", ["scores", "det"], ["logits"], name="add"))
    model.graph.node[1].output[0] = "scores"
    model.graph.initializer.append(numpy_helper.from_array(normal(4, 4), "square"))
    return onnx_bytes(model)


@pytest.mark.usefixtures("torch_installed")
def test_a_model_that_can_be_trained_is_accepted(client: TestClient) -> None:
    upload_dataset(client)
    upload_model(client)
    job = client.post("/api/v1/jobs", json=QAT | {"options": {"epochs": 3}})
    assert job.status_code == 202, job.text
    assert (job.json()["variant"], job.json()["options"]["epochs"]) == ("qat", 3)


@pytest.mark.usefixtures("torch_installed")
def test_training_needs_samples(client: TestClient) -> None:
    upload_model(client)
    answer = client.post("/api/v1/jobs", json={"model": "linear", "method": "qat"})
    assert (answer.status_code, answer.json()["field"]) == (422, "dataset")


@pytest.mark.parametrize("torch_installed", [False], indirect=True)
def test_without_torch_the_extra_is_named(client: TestClient, kept: Kept, torch_installed: bool) -> None:
    upload_dataset(client)
    upload_model(client)
    before = kept.now()
    for answer in (client.post("/api/v1/jobs", json=QAT), upload_model(client, quantize="qat", dataset="samples")):
        assert (answer.status_code, answer.json()["field"]) == (422, "method")
        assert "pip install 'octet[qat]'" in answer.json()["detail"]
    assert kept.now() == before


@pytest.mark.usefixtures("torch_installed")
@pytest.mark.parametrize(("name", "told"), [("volume", "(node 'volume')"), ("", "(node 'det')")])
def test_an_operator_that_cannot_be_trained_through_is_named_with_its_node(
    client: TestClient, kept: Kept, name: str, told: str
) -> None:
    upload_dataset(client)
    upload_model(client, with_determinant(name=name))
    before = kept.now()
    answer = client.post("/api/v1/jobs", json=QAT)
    assert (answer.status_code, answer.json()["field"]) == (422, "method")
    assert f"'Det' {told}" in answer.json()["detail"]
    assert kept.now() == before
    assert client.post("/api/v1/jobs", json=QAT | {"method": "int8"}).status_code == 202


@pytest.mark.usefixtures("torch_installed")
def test_of_a_model_uploaded_before_nodes_were_kept_only_the_operator_is_named(
    client: TestClient, settings: Settings
) -> None:
    upload_dataset(client)
    upload_model(client, with_determinant(name="volume"))
    database = Database(settings.registry_url)
    with database.writing() as session:
        session.query(Revision).update({"operator_nodes": None})
    database.close()
    answer = client.post("/api/v1/jobs", json=QAT)
    assert answer.status_code == 422
    assert "operator 'Det';" in answer.json()["detail"]


def test_the_gateway_looks_for_torch_and_does_not_load_it() -> None:
    program = (
        "import sys; from app.contracts import methods; import app.main;"
        "methods.check_applicable(methods.find('int8'), {'Gemm': 1}, 1)\n"
        "try: methods.check_applicable(methods.find('qat'), {'Gemm': 1}, 1)\n"
        "except Exception: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
