from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from tests import registries
from tests.app.conftest import upload_dataset, upload_model
from tests.seams.octet import Octet


@pytest.fixture
def octet(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Octet]:
    """With the model `linear` and the dataset `samples`."""
    settings = Settings(home=tmp_path_factory.mktemp("octet"), max_upload_bytes=4 * 1024**2, grpc_port=0)
    settings.make_folders()
    registries.migrate(settings.registry_url)
    with TestClient(create_app(settings), base_url="http://localhost") as client:
        assert upload_model(client).status_code == 201
        assert upload_dataset(client).status_code == 201
        yield Octet(client, settings, monkeypatch)
