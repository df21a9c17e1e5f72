"""Services whose database and broker tests may stop, and kill."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.service import Service
from tests.servers import PostgreSQL, Redis


@dataclass(frozen=True)
class Stack:
    """A gateway and a worker on a database and a broker of their own."""

    service: Service
    database: PostgreSQL
    broker: Redis


@contextmanager
def running_stack(folder: Path, servers: Path, environment: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """A service that keeps its files in `folder / "home"`; Redis has the folder `servers`."""
    database, broker = PostgreSQL(), Redis(servers)
    database.start()
    broker.start()
    chosen = {"OCTET_DATABASE_URL": database.database(), "OCTET_BROKER_URL": broker.url} | dict(environment or {})
    service = Service(folder / "home", chosen, apart=True)
    try:
        service.migrate()
        service.start()
        yield Stack(service, database, broker)
    finally:
        service.stop()
        broker.kill()
        database.close()


@pytest.fixture
def stack(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path, tmp_path_factory.mktemp("pg")) as stack:
        yield stack
