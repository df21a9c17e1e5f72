"""Services that the tests of one pytest process share, since a start costs seconds. Each test finds them empty."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from tests.e2e.service import Service
from tests.servers import PostgreSQL, Redis

T = TypeVar("T")


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


@contextmanager
def running_service(folder: Path) -> Iterator[Service]:
    """`octet serve` on its embedded defaults."""
    service = Service(folder / "home")
    try:
        service.start()
        yield service
    finally:
        service.stop()


class Shared(Generic[T]):
    """Starts what `run` gives when the first test asks for it, and empties it with `clear` after each test.

    A test may kill processes that it starts again. What cannot be emptied fails the test, and the next gets a new one.
    """

    def __init__(self, run: Callable[[], AbstractContextManager[T]], clear: Callable[[T], None]) -> None:
        self._run = run
        self._clear = clear
        self._context: AbstractContextManager[T] | None = None
        self._value: T

    @contextmanager
    def lend(self) -> Iterator[T]:
        if self._context is None:
            context = self._run()
            self._value = context.__enter__()
            self._context = context
        yield self._value
        try:
            self._clear(self._value)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        context, self._context = self._context, None
        if context is not None:
            context.__exit__(None, None, None)
