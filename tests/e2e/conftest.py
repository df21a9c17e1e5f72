"""Running services."""

import io
from collections.abc import Iterator
from contextlib import AbstractContextManager

import numpy as np
import pytest
from playwright.sync_api import Browser, sync_playwright

from tests import graphs
from tests.e2e.browsing import Window, launched
from tests.e2e.service import Service
from tests.e2e.shared import Shared, Stack, running_service, running_stack
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


@pytest.fixture(scope="session")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared[Service]]:
    shared = Shared(lambda: running_service(tmp_path_factory.mktemp("embedded")), Service.clear)
    yield shared
    shared.close()


@pytest.fixture(scope="session")
def shared_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared[Stack]]:
    def run() -> AbstractContextManager[Stack]:
        return running_stack(tmp_path_factory.mktemp("production"), tmp_path_factory.mktemp("redis"))

    shared = Shared(run, lambda stack: stack.service.clear())
    yield shared
    shared.close()


@pytest.fixture
def embedded(shared_service: Shared[Service]) -> Iterator[Service]:
    """`octet serve` on its embedded defaults: shared, and empty."""
    with shared_service.lend() as service:
        yield service


@pytest.fixture
def stack(shared_stack: Shared[Stack]) -> Iterator[Stack]:
    """`octet gateway` and `octet worker` on PostgreSQL and Redis, by environment variables alone: shared, and empty."""
    with shared_stack.lend() as stack:
        yield stack


@pytest.fixture
def production(stack: Stack) -> Service:
    return stack.service


@pytest.fixture(params=["embedded", "production"])
def service(request: pytest.FixtureRequest) -> Service:
    """Octet both ways."""
    running: Service = request.getfixturevalue(request.param)
    return running


@pytest.fixture(scope="session")
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
def window(request: pytest.FixtureRequest, chromium: Browser, embedded: Service) -> Iterator[Window]:
    window = Window(chromium, embedded.url, thorough="not slow" not in request.config.option.markexpr)
    yield window
    window.close()
    assert window.beyond == []
    assert window.complaints == []
