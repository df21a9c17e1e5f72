from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app.settings import Settings
from tests.app.access.keyed import Keyed, keyed_by


@pytest.fixture
def keyed(client: TestClient, settings: Settings) -> Iterator[Keyed]:
    with keyed_by(client, settings) as made:
        yield made
