"""A house for queues."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.blobs import open_store
from app.serving.loading import Artifact
from app.serving.pool import Pool
from app.settings import Settings
from tests.app.serving.artifacts import kept
from tests.app.serving.queues import Engine, House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    engine = Engine()
    blobs = open_store(Settings(home=tmp_path))
    (tmp_path / "blob").write_bytes(b"a model")
    artifact = Artifact("fake", kept(blobs, tmp_path / "blob"))
    pool = Pool(blobs, tmp_path, tmp_path / "mapped", intra_op_threads=1, engine=lambda name: engine)
    house = House(pool, engine, artifact)
    yield house
    house.close()
    house.pool.close()
