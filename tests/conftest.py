"""What all tests share: small graphs made by code, registries on both databases, and servers of their own."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.registry import Database, migrations


def missing(what: str) -> None:
    """Skip a test that needs `what`; where nothing may be skipped, fail it."""
    if os.environ.get("OCTET_TEST_NO_SKIP") == "1":
        pytest.fail(f"{what} is missing, and OCTET_TEST_NO_SKIP is set")
    pytest.skip(f"{what} is not installed")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int, process: subprocess.Popen[bytes], *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on port {port} after {seconds} s")


def _postgresql_binary(name: str) -> str | None:
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return str(places[0]) if places else shutil.which(name)


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL, without a database, of a throwaway PostgreSQL server."""
    initdb, postgres = _postgresql_binary("initdb"), _postgresql_binary("postgres")
    if initdb is None or postgres is None:
        missing("PostgreSQL")
    assert initdb is not None
    assert postgres is not None
    # A short path: a socket's name may have 107 characters at most.
    folder = Path(tmp_path_factory.mktemp("pg"))
    data, port = folder / "data", free_port()
    # PostgreSQL refuses to run as root.
    user = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
    if user:
        for parent in (folder, *folder.parents):
            if parent.stat().st_uid == os.geteuid() and parent.stat().st_mode & 0o777 == 0o700:
                parent.chmod(0o711)
        shutil.chown(folder, "nobody")
    command = [initdb, "-D", str(data), "-U", "octet", "-A", "trust", "-N", "-E", "UTF8", "--locale=C"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/", **user)  # type: ignore[call-overload]
    settings = ["-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "listen_addresses=127.0.0.1"]
    process = subprocess.Popen(  # type: ignore[call-overload]
        [postgres, "-D", str(data), "-p", str(port), *settings], stderr=subprocess.DEVNULL, cwd="/", **user
    )
    try:
        wait_for_port(port, process)
        yield f"postgresql://octet@127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture
def postgresql_url(postgresql_server: str) -> Iterator[str]:
    """A fresh database on the throwaway server."""
    import psycopg

    name = f"octet_{time.monotonic_ns()}"
    with psycopg.connect(f"{postgresql_server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
    return f"{postgresql_server}/{name}"


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """The URL of a throwaway Redis server that keeps nothing."""
    redis = shutil.which("redis-server")
    if redis is None:
        missing("Redis")
    assert redis is not None
    port = free_port()
    process = subprocess.Popen(
        [redis, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for_port(port, process)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture(params=["sqlite", "postgresql"])
def registry_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty registry, once on each database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'registry.sqlite3'}"
    url: str = request.getfixturevalue("postgresql_url")
    return url.replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture
def database(registry_url: str) -> Iterator[Database]:
    """A migrated registry, once on each database."""
    migrations.upgrade(registry_url)
    database = Database(registry_url)
    yield database
    database.close()
