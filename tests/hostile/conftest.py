"""A gateway with something to lose."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.registry import migrations
from app.settings import Settings
from tests.app.conftest import Kept, upload_dataset, upload_model


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("hostile") / "home"
    return Settings(home=home, max_upload_bytes=4 * 1024**2, max_inference_bytes=1024**2, grpc_port=0)


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[TestClient]:
    """The model `linear` (x FP32[-1,16]) and the dataset `samples`."""
    settings.make_folders()
    migrations.upgrade(settings.registry_url)
    with TestClient(create_app(settings), base_url="http://localhost", raise_server_exceptions=False) as client:
        assert upload_model(client).status_code == 201
        assert upload_dataset(client).status_code == 201
        yield client


@pytest.fixture
def unharmed(settings: Settings, client: TestClient) -> Iterator[None]:
    """What was kept before the test is kept after it, and no more; the gateway still answers."""
    kept = Kept(settings)
    before = kept.now()
    yield
    assert kept.now() == before
    tensor = {"name": "x", "shape": [1, 16], "datatype": "FP32", "data": [0.5] * 16}
    assert client.post("/v2/models/linear/infer", json={"inputs": [tensor]}).status_code == 200
