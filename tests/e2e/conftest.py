"""Running services."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import graphs
from tests.e2e.service import Service


def npz(**arrays: object) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


@pytest.fixture(scope="session")
def model_bytes() -> bytes:
    return graphs.convolution().SerializeToString()


@pytest.fixture(scope="session")
def dataset_bytes() -> bytes:
    return npz(**graphs.labelled_samples(samples=400, shape=(3, 8, 8), name="image"))


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Service]:
    """`octet serve` on its embedded defaults."""
    service = Service(tmp_path / "home")
    service.start()
    yield service
    service.stop()


@pytest.fixture
def production(tmp_path: Path, postgresql_url: str, redis_url: str) -> Iterator[Service]:
    """`octet gateway` and `octet worker` on PostgreSQL and Redis, by environment variables alone."""
    service = Service(
        tmp_path / "home", {"OCTET_DATABASE_URL": postgresql_url, "OCTET_BROKER_URL": redis_url}, apart=True
    )
    service.migrate()
    service.start()
    yield service
    service.stop()


@pytest.fixture(params=["embedded", "production"])
def service(request: pytest.FixtureRequest) -> Service:
    """Octet both ways."""
    running: Service = request.getfixturevalue(request.param)
    return running
