"""A registry and a home for workers of the test's own making."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.registry import Database
from app.settings import Settings
from tests import registries


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(home=tmp_path / "home")
    settings.make_folders()
    return settings


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    registries.migrate(settings.registry_url)
    database = Database(settings.registry_url)
    yield database
    database.close()
