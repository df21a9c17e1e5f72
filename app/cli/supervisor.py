"""Gateway and worker as children of one process, started and ended together."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from app.errors import Conflict, Unavailable

if TYPE_CHECKING:
    from app.settings import Settings

_START_SECONDS = 60
_STOP_SECONDS = 35
_LONGEST_BACKOFF_SECONDS = 30.0


class _Terminated(Exception):
    """SIGTERM or SIGINT arrived."""


class Service:
    """A running gateway and worker."""

    def __init__(
        self, home: Path, host: str, port: int, grpc_port: int, log: Path | None, *, insecure: bool = False
    ) -> None:
        self.home = home.absolute()
        self.host = host
        self.port = port
        self.grpc_port = grpc_port
        self._log = log.open("ab") if log is not None else None
        where = ["--host", host, "--port", str(port), "--grpc-port", str(grpc_port)]
        self._gateway = self._launch("gateway", *where, *(["--insecure"] if insecure else []))
        self._worker = self._launch("worker")
        self._worker_started = time.monotonic()
        self._backoff_seconds = 1.0

    @property
    def url(self) -> str:
        """Where this machine reaches the gateway."""
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::", ""} else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def wait_until_ready(self) -> None:
        """Return once requests are answered; raises `Unavailable` when a process ends instead."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._gateway.poll() is not None:
                raise Unavailable(f"the gateway ended with code {self._gateway.returncode} while it was starting")
            try:
                with urllib.request.urlopen(f"{self.url}/v2/health/ready", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        raise Unavailable(f"the gateway was not ready within {_START_SECONDS} s")

    def wait(self) -> int:
        """Serve until SIGTERM or SIGINT (0), or until the gateway ends by itself (1); a dead worker is replaced."""
        try:
            while self._gateway.poll() is None:
                self._replace_dead_worker()
                time.sleep(0.2)
        except (_Terminated, KeyboardInterrupt):
            return 0
        print(f"octet: the gateway ended with code {self._gateway.returncode}", file=sys.stderr)
        return 1

    def stop(self) -> None:
        """End both: politely, then not."""
        children = (self._gateway, self._worker)
        for child in children:
            if child.poll() is None:
                child.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for child in children:
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        if self._log is not None:
            self._log.close()

    def _launch(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "app.cli", *command, "--with-parent", str(os.getpid())],
            env=os.environ | {"OCTET_HOME": str(self.home)},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            # Ctrl-C is the supervisor's to pass on: a terminal would send it to each of them.
            start_new_session=True,
        )

    def _replace_dead_worker(self) -> None:
        if self._worker.poll() is None:
            return
        lived_seconds = time.monotonic() - self._worker_started
        self._backoff_seconds = 1.0 if lived_seconds > 60 else min(self._backoff_seconds * 2, _LONGEST_BACKOFF_SECONDS)
        print(
            f"octet: the worker ended with code {self._worker.returncode}; a new one starts"
            f" in {self._backoff_seconds:g} s",
            file=sys.stderr,
        )
        time.sleep(self._backoff_seconds)
        self._worker = self._launch("worker")
        self._worker_started = time.monotonic()


@contextmanager
def start_service(
    *, home: Path, host: str, port: int, grpc_port: int = 0, log: Path | None = None, insecure: bool = False
) -> Iterator[Service]:
    """A migrated, ready service; ended with the block. Output of its processes goes to `log` if given.

    Raises `Conflict` when a port is taken, or when others than this machine would reach it without keys, and not
    `insecure`.
    """
    from app.registry import migrations
    from app.settings import Settings

    port = bindable(host, port)
    check_grpc_port(host, grpc_port)
    settings = Settings(home=home)
    settings.make_folders()
    for caught in (signal.SIGTERM, signal.SIGINT):
        signal.signal(caught, _terminate)
    service: Service | None = None
    try:
        migrations.upgrade(settings.registry_url)
        check_exposure(settings.model_copy(update={"host": host, "insecure": insecure}))
        service = Service(home, host, port, grpc_port, log, insecure=insecure)
        service.wait_until_ready()
        yield service
    except _Terminated:
        return
    finally:
        # A second signal must not cut the ending short.
        for caught in (signal.SIGTERM, signal.SIGINT):
            signal.signal(caught, signal.SIG_IGN)
        if service is not None:
            service.stop()


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise _Terminated


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    try:
        bindable(host, port)
    except Conflict:
        return False
    return True


def grpc_port_beside(port: int, settings: "Settings") -> int:
    """The port for gRPC of a gateway on `port`; unless it is named, none beside one that takes any free port."""
    return settings.grpc_port if port or "grpc_port" in settings.model_fields_set else 0


def check_exposure(settings: "Settings") -> None:
    """Raises `Conflict` where others than this machine would reach a service without keys, and it is not `insecure`."""
    from app.access import exposure
    from app.registry import Database, OperationalError, migrations

    database = Database(settings.registry_url)
    try:
        migrations.check_current(database)
        exposure.check(settings, database)
    except (Unavailable, OperationalError):
        # What is wrong with the registry, the gateway says itself, and does not start.
        return
    finally:
        database.close()


def check_grpc_port(host: str, port: int) -> None:
    """Raises `Conflict` when gRPC is to be served there, and something else is."""
    if port:
        bindable(host, port, instead="--grpc-port or OCTET_GRPC_PORT, 0 for no gRPC")


def bindable(host: str, port: int, *, instead: str = "--port") -> int:
    """The port, or a free one for 0. Raises `Conflict`, which says what to use `instead`, when it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Conflict(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another with {instead}"
            ) from error
        free: int = probe.getsockname()[1]
        return free
