"""A gateway with an experiment."""

import pytest
from fastapi.testclient import TestClient

from app.registry import Database
from tests.app.live_experiment import create


@pytest.fixture
def started(client: TestClient, registry: Database) -> str:
    """The address of an experiment that runs."""
    address = create(client)
    assert client.post(f"{address}/start").status_code == 200
    return address
