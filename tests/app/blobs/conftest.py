"""Stores to test: the one that ships, and one whose bytes are not files."""

from pathlib import Path

import pytest

from app.blobs import BlobStore, open_store
from app.blobs.stores import STORES
from app.settings import Settings
from tests.blob_stores import ROW


@pytest.fixture
def sqlite_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A service whose blobs are in an SQLite database."""
    monkeypatch.setitem(STORES, "sqlite", ROW)
    settings = Settings(home=tmp_path / "home", blobs=f"sqlite://{tmp_path}/elsewhere/blobs.sqlite3", grpc_port=0)
    settings.make_folders()
    return settings


@pytest.fixture(params=["file", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """An empty store, once of each kind."""
    if request.param == "file":
        return open_store(Settings(home=tmp_path))
    return open_store(request.getfixturevalue("sqlite_settings"))


@pytest.fixture
def new_file(tmp_path: Path) -> Path:
    """A file to put into a store."""
    path = tmp_path / "new"
    path.write_bytes(b"weights")
    return path
