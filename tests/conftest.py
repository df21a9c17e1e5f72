"""What all tests share: small graphs made by code, registries on both databases, and servers of their own."""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from app.registry import Database
from tests import registries
from tests.servers import PostgreSQL, Redis

pytest_plugins = ("tests.durations",)

#: Tests of real processes, of hostile input and of training: `make test` runs them, `make check` does not.
E2E_FOLDERS = ("e2e", "hostile", "worker/training")

#: Examples of each property: where `-m` leaves `slow` tests out, and elsewhere. The same ones in each run.
QUICK_EXAMPLES, ALL_EXAMPLES = 25, 100

# Compiled modules are kept: without them each process of the tests rewrites all their assertions, for 7 s of CPU.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_configure(config: pytest.Config) -> None:
    examples = QUICK_EXAMPLES if "not slow" in config.option.markexpr else ALL_EXAMPLES
    # Without a deadline: a busy machine is no defect.
    hypothesis.settings.register_profile("octet", max_examples=examples, deadline=None, derandomize=True)
    hypothesis.settings.load_profile("octet")


def pytest_collection_finish() -> None:
    """Spare garbage collections what lives as long as the process: they took a fourth of the time of API tests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of `E2E_FOLDERS`, before pytest selects by `-m`."""
    folders = [Path(__file__).parent / name for name in E2E_FOLDERS]
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in folders):
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgreSQL]:
    server = PostgreSQL()
    server.start()
    yield server
    server.close()


@pytest.fixture
def postgresql_url(postgresql_server: PostgreSQL) -> str:
    """A fresh database on the throwaway server."""
    return postgresql_server.database()


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """The URL of a throwaway Redis server that keeps nothing."""
    server = Redis(tmp_path)
    server.start()
    yield server.url
    server.stop()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.e2e)])
def registry_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A registry, once on each database: empty, or migrated for tests that take `database` too."""
    is_migrated = "database" in request.fixturenames
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'registry.sqlite3'}"
        if is_migrated:
            registries.migrate(url)
        return url
    if is_migrated:
        return registries.new_postgresql(request.getfixturevalue("postgresql_server"))
    return registries.with_driver(request.getfixturevalue("postgresql_url"))


@pytest.fixture
def database(registry_url: str) -> Iterator[Database]:
    """A migrated registry, once on each database."""
    database = Database(registry_url)
    yield database
    database.close()


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Iterator[Database]:
    """A migrated registry on SQLite, for tests of what does not depend on the database."""
    url = f"sqlite:///{tmp_path / 'registry.sqlite3'}"
    registries.migrate(url)
    database = Database(url)
    yield database
    database.close()
