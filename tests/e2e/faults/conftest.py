"""Services whose database and broker tests may stop, and kill."""

from collections.abc import Iterator
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


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    database, broker = PostgreSQL(), Redis(tmp_path)
    database.start()
    broker.start()
    chosen = {"OCTET_DATABASE_URL": database.database(), "OCTET_BROKER_URL": broker.url}
    service = Service(tmp_path / "home", chosen, apart=True)
    try:
        service.migrate()
        service.start()
        yield Stack(service, database, broker)
    finally:
        service.stop()
        broker.kill()
        database.close()
