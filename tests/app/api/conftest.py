"""A gateway with an experiment."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app.registry import Database
from app.settings import Settings
from tests.app.conftest import upload_model
from tests.app.live_experiment import add_variants, create


@pytest.fixture
def database(settings: Settings, client: TestClient) -> Iterator[Database]:
    """The registry of the gateway, where model `linear` has `int8`, and `bad`, which was rejected."""
    upload_model(client)
    database = Database(settings.registry_url)
    add_variants(database)
    yield database
    database.close()


@pytest.fixture
def started(client: TestClient, database: Database) -> str:
    """The address of an experiment that runs."""
    address = create(client)
    assert client.post(f"{address}/start").status_code == 200
    return address
