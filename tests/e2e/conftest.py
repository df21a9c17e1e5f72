"""Running services."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, sync_playwright

from tests import graphs
from tests.e2e.browsing import Window, artifacts, launched
from tests.e2e.service import Service
from tests.servers import free_port

#: How long a body may take to come, where a test waits for that.
BODY_SECONDS = 2


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


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, model_bytes: bytes, dataset_bytes: bytes) -> Iterator[Service]:
    """`model` with a variant `int8`, `linear` with names of its classes, and `types` with an input of each type.

    Over HTTP and gRPC.
    """
    chosen = {"OCTET_INFERENCE_BODY_SECONDS": str(BODY_SECONDS), "OCTET_GRPC_PORT": str(free_port())}
    service = Service(tmp_path_factory.mktemp("served") / "home", chosen)
    service.start()
    try:
        service.upload_dataset(dataset_bytes)
        service.upload_model(model_bytes)
        service.upload_model(
            graphs.linear_classifier().SerializeToString(), name="linear", labels='["cat", "dog", "eel", "fox"]'
        )
        service.upload_model(graphs.all_datatypes().SerializeToString(), name="types")
        assert service.finished(service.submit(method="int8", dataset="samples"))["state"] == "succeeded"
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = launched(playwright)
        yield browser
        browser.close()


@pytest.fixture
def window(chromium: Browser, embedded: Service, tmp_path: Path) -> Iterator[Window]:
    window = Window(chromium, embedded.url, artifacts(tmp_path / "shots"))
    yield window
    window.close()
    assert window.beyond == []
    assert window.complaints == []
