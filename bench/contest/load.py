"""Sends requests to a server over connections that stay open, one in flight on each, and takes the time of each.

One thread and `epoll`: it costs the same for every server, and little (`echo.py` is there to tell how little).
"""

import gc
import re
import select
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_SILENCE_SECONDS = 30
#: The first answer on each connection is read, and then one in so many.
_CHECKED_EVERY = 50
_MOST_ERRORS = 20


@dataclass(frozen=True)
class Exchange:
    """One request as bytes, and what its answer must hold: `check` says what is wrong with a body, or nothing."""

    request: bytes
    check: Callable[[bytes, bytes], str | None]


@dataclass(frozen=True)
class Turn:
    """`answered`: requests whose answers came within `seconds`; the latencies are of those sent within them too."""

    latencies_ms: NDArray[np.float64]
    answered: int
    seconds: float
    errors: tuple[str, ...] = ()

    @classmethod
    def failed(cls, why: str) -> "Turn":
        return cls(np.empty(0), 0, 1, (why,))

    @property
    def per_second(self) -> float:
        return self.answered / self.seconds

    def percentile_ms(self, share: float) -> float:
        return float(np.percentile(self.latencies_ms, share)) if len(self.latencies_ms) else float("nan")


class Broken(Exception):
    """The server closed a connection, was silent for too long, or sent what is no HTTP."""


class _Connection:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=_SILENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Read only when epoll says so: a timeout would cost one more system call for each read.
        self.socket.setblocking(True)
        self.buffer = b""
        self.sent = 0.0
        self.count = 0
        self.exchange: Exchange

    def send(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.sent = time.perf_counter()
        self.socket.sendall(exchange.request)

    def receive(self) -> tuple[bytes, bytes] | None:
        """Head and body, once both are there."""
        piece = self.socket.recv(1 << 18)
        if not piece:
            raise Broken("the server closed the connection")
        self.buffer = self.buffer + piece if self.buffer else piece
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        head, rest = self.buffer[: end + 2], self.buffer[end + 4 :]
        found = _LENGTH.search(head)
        if found is not None:
            if len(rest) < int(found[1]):
                return None
            body = rest
        elif _CHUNKED.search(head):
            whole = _joined_chunks(rest)
            if whole is None:
                return None
            body = whole
        else:
            raise Broken(f"an answer of unknown length: {head[:80]!r}")
        self.buffer = b""
        self.count += 1
        return head, body


def _joined_chunks(raw: bytes) -> bytes | None:
    """The body of a chunked answer, or nothing while it is not complete."""
    pieces, at = [], 0
    while (line := raw.find(b"\r\n", at)) >= 0:
        size = int(raw[at:line].split(b";")[0], 16)
        if size == 0:
            return b"".join(pieces) if raw.endswith(b"\r\n\r\n") else None
        at = line + 2 + size + 2
        pieces.append(raw[line + 2 : at - 2])
    return None


class _Tally:
    """What came of the requests of one turn; times are those of `perf_counter`."""

    def __init__(self, begun: float, until: float) -> None:
        self.begun = begun
        self.until = until
        self.latencies: list[float] = []
        self.answered = 0
        self.errors: list[str] = []

    def note(self, connection: _Connection, head: bytes, body: bytes, now: float) -> None:
        if self.begun <= now < self.until:
            self.answered += 1
            if connection.sent >= self.begun:
                self.latencies.append(now - connection.sent)
        if head[9:12] != b"200":
            self.errors.append(f"{head.splitlines()[0].decode()}: {body[:200]!r}")
        elif connection.count % _CHECKED_EVERY == 1:
            wrong = connection.exchange.check(head, body)
            if wrong is not None:
                self.errors.append(wrong)

    def over(self, now: float) -> bool:
        return now >= self.until or len(self.errors) >= _MOST_ERRORS


def drive(port: int, exchanges: Sequence[Exchange], concurrency: int, seconds: float, warmup: float = 0.3) -> Turn:
    """Send for `warmup + seconds`, of which the first do not count. What servers do wrong is in the turn's errors."""
    connections: dict[int, _Connection] = {}
    begun = time.perf_counter() + warmup
    tally = _Tally(begun, begun + seconds)
    collects = gc.isenabled()
    gc.disable()
    try:
        with select.epoll() as poll:
            for number in range(concurrency):
                connection = _Connection(port)
                connections[connection.socket.fileno()] = connection
                poll.register(connection.socket, select.EPOLLIN)
                connection.send(exchanges[number % len(exchanges)])
            _exchange(poll, connections, exchanges, tally)
    except (OSError, ValueError, Broken) as error:
        tally.errors.append(str(error))
    finally:
        for connection in connections.values():
            connection.socket.close()
        if collects:
            gc.enable()
    return Turn(np.array(tally.latencies) * 1e3, tally.answered, seconds, tuple(tally.errors))


def pace(port: int, exchanges: Sequence[Exchange], per_second: float, seconds: float, warmup: float = 0.3) -> Turn:
    """As `drive`, over one connection, and not faster than that: the server has time to spare."""
    begun = time.perf_counter() + warmup
    tally = _Tally(begun, begun + seconds)
    try:
        connection = _Connection(port)
        with closing(connection.socket):
            number, due = 0, time.perf_counter()
            while not tally.over(time.perf_counter()):
                time.sleep(max(0.0, due - time.perf_counter()))
                connection.send(exchanges[number % len(exchanges)])
                while (answer := connection.receive()) is None:
                    pass
                tally.note(connection, *answer, time.perf_counter())
                number, due = number + 1, max(due + 1 / per_second, time.perf_counter())
    except (OSError, ValueError, Broken) as error:
        tally.errors.append(str(error))
    return Turn(np.array(tally.latencies) * 1e3, tally.answered, seconds, tuple(tally.errors))


def _exchange(
    poll: select.epoll, connections: dict[int, _Connection], exchanges: Sequence[Exchange], tally: _Tally
) -> None:
    """Until the turn is over and all are answered: what was left in a server's queue would disturb the next turn."""
    clock, number, in_flight = time.perf_counter, len(connections), len(connections)
    while in_flight:
        ready = poll.poll(_SILENCE_SECONDS)
        if not ready:
            raise Broken(f"no answer within {_SILENCE_SECONDS} s")
        for descriptor, _ in ready:
            connection = connections[descriptor]
            answer = connection.receive()
            if answer is None:
                continue
            now = clock()
            tally.note(connection, *answer, now)
            if tally.over(now):
                in_flight -= 1
                continue
            connection.send(exchanges[number % len(exchanges)])
            number += 1
