"""A registry with artifacts, as uploads and jobs leave them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from app.blobs import open_store
from app.digest import sha256_of
from app.intake.deposit import deposit
from app.registry import Database, models
from app.settings import Settings
from tests.app.registry.conftest import new_revision


class Home:
    """Where a service keeps things."""

    def __init__(self, folder: Path) -> None:
        self.scratch = folder / "scratch"
        self.scratch.mkdir(parents=True)
        self.blobs = open_store(Settings(home=folder))

    def new_blob(self, content: bytes) -> str:
        """A blob that no row names."""
        path = self.scratch / "new"
        path.write_bytes(content)
        digest = sha256_of(path)
        self.blobs.put(path, digest)
        return digest

    def contents(self) -> dict[str, bytes]:
        return {digest: self.blobs.open(digest).read() for digest in self.blobs.digests()}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def upload(database: Database, home: Home) -> Callable[[str, bytes], str]:
    """Registers a model whose file has that content; returns its digest."""

    def uploaded(name: str, content: bytes) -> str:
        path = home.scratch / "upload"
        path.write_bytes(content)
        digest = sha256_of(path)
        with deposit(database, home.blobs, {digest: path}) as session:
            models.register(session, name, new_revision(digest=digest, file_digest=digest))
        return digest

    return uploaded
