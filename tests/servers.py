"""Servers that tests have to themselves: they can be stopped, frozen and killed like any other process."""

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest

#: Asked before any test has it point elsewhere.
_TEMPORARY = tempfile.gettempdir()


#: How to get what tests need and Octet does not.
_INSTALL = {
    "Chromium": "apt-get install chromium",
    "PostgreSQL": "apt-get install postgresql",
    "Redis": "apt-get install redis-server",
    "atheris": "make test-all EXTRAS=test,fuzz",
    "curl": "apt-get install curl",
    "mount": "tests of a full disk mount a small one, as root",
    "perf_analyzer": ".ci/run shows how",
    "schemathesis": "make test-all EXTRAS=test,fuzz",
    "torch": "make test EXTRAS=test,qat",
}


def missing(what: str) -> NoReturn:
    """Skip a test that needs `what`, and say how to get it; where nothing may be skipped, fail the test."""
    if os.environ.get("OCTET_TEST_NO_SKIP") == "1":
        pytest.fail(f"{_reason(what)} (OCTET_TEST_NO_SKIP is set)")
    pytest.skip(_reason(what))


def _reason(what: str) -> str:
    return f"{what} is not installed: {_INSTALL[what]}"


WITHOUT_TORCH = _reason("torch")


def needs_torch() -> None:
    """Skip a test that trains where torch is missing."""
    if find_spec("torch") is None:
        missing("torch")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _lasting_port() -> int:
    """A free port that no outgoing connection is given, so that a server that was stopped gets it again."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port


def _wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path, *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, f"{process.args!r} ended:\n{log.read_text()[-2000:]}"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on port {port} after {seconds} s")


class _Server:
    """One process at one port, which stays the same when it is started again."""

    def __init__(self, command: list[str], port: int, log: Path, **options: Any) -> None:
        self.port = port
        self.log = log
        self._command = command
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once it listens."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, **self._options)
        _wait_for_port(self.port, self._process, self.log)

    def stop(self) -> None:
        """Have it end in good order."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=30)

    def kill(self) -> None:
        """With all its processes, as when a machine loses its power."""
        if self._process is not None and self._process.poll() is None:
            family = [*psutil.Process(self._process.pid).children(recursive=True), psutil.Process(self._process.pid)]
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self._process.wait(timeout=30)
            psutil.wait_procs(family, timeout=30)


class PostgreSQL(_Server):
    """A cluster in a folder of its own, which goes with `close`; `url` names no database."""

    def __init__(self) -> None:
        initdb, postgres = _postgresql_binary("initdb"), _postgresql_binary("postgres")
        if initdb is None or postgres is None:
            missing("PostgreSQL")
        # Not among the folders of the tests, which are for their owner alone: PostgreSQL refuses to run as root.
        folder = self._folder = Path(tempfile.mkdtemp(prefix="octet-postgresql-", dir=_TEMPORARY))
        data, port = folder / "data", _lasting_port()
        user = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
        if user:
            shutil.chown(folder, "nobody")
        command = [initdb, "-D", str(data), "-U", "octet", "-A", "trust", "-N", "-E", "UTF8", "--locale=C"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/", **user)  # type: ignore[call-overload]
        chosen = ("unix_socket_directories=", "listen_addresses=127.0.0.1", "fsync=off")
        settings = [word for setting in chosen for word in ("-c", setting)]
        super().__init__([postgres, "-D", str(data), "-p", str(port), *settings], port, folder / "log", cwd="/", **user)
        self.url = f"postgresql://octet@127.0.0.1:{port}"

    def start(self) -> None:
        """Returns once it answers: it listens before it does."""
        import psycopg

        super().start()
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(f"{self.url}/postgres", connect_timeout=5).close()
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, self.log.read_text()[-2000:]
                time.sleep(0.05)
            else:
                return

    def database(self, name: str | None = None, *, template: str = "template1") -> str:
        """Create a database, a copy of `template`; return its URL."""
        import psycopg

        name = name or f"octet_{time.monotonic_ns()}"
        with psycopg.connect(f"{self.url}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")  # type: ignore[call-overload]
        return f"{self.url}/{name}"

    def has(self, name: str) -> bool:
        """Whether there is a database of that name."""
        import psycopg

        with psycopg.connect(f"{self.url}/postgres", autocommit=True) as connection:
            return connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is not None

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def stop(self) -> None:
        """Not waiting for clients, as a restart by a service manager does not."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(timeout=30)


def _postgresql_binary(name: str) -> str | None:
    """On the PATH; or in Debian's folder, which is not on it, where Debian's `psql` is."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True) if shutil.which("psql") else []
    return str(places[0]) if places else shutil.which(name)


class Redis(_Server):
    """Keeps nothing on disk: a restart loses all messages."""

    def __init__(self, folder: Path) -> None:
        redis = shutil.which("redis-server")
        if redis is None:
            missing("Redis")
        port = _lasting_port()
        command = [redis, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        super().__init__([*command, "--dir", str(folder)], port, folder / "redis.log")
        self.url = f"redis://127.0.0.1:{port}/0"
