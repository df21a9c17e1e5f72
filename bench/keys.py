"""What it costs an inference request to be let in: `python bench/keys.py [--requests 200000] [--keys 1000]`.

The gate alone, as the gateway asks it for each request, with the headers that tritonclient sends. Medians of the CPU
time of batches.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from app.access.exposure import Exposure
from app.access.gate import Gate, Headers
from app.access.keyring import Keyring
from app.caller import CALLER, Scope
from app.engines.cpu import this_cpu
from app.registry import Database, keys, migrations
from app.registry.keys import NewKey

_BATCH = 1000
_MOST_US = 10.0
_MODEL = "resnet20"
_SENT = [
    (b"host", b"127.0.0.1:8000"),
    (b"accept", b"*/*"),
    (b"user-agent", b"python-geventhttpclient-2.3.1"),
    (b"inference-header-content-length", b"172"),
    (b"content-type", b"application/octet-stream"),
    (b"content-length", b"12460"),
]


def microseconds(gate: Gate, headers: Headers, count: int) -> float:
    """CPU time of one request's admission, the median over batches."""
    taken = []
    for _ in range(count // _BATCH):
        begun = time.process_time_ns()
        for _ in range(_BATCH):
            # As an event loop runs it; one that waited would go on here, and break the bench.
            admitting = gate.admit_inference(dict(headers), _MODEL)
            try:
                admitting.send(None)
            except StopIteration as ended:
                CALLER.set(ended.value)
        taken.append((time.process_time_ns() - begun) / _BATCH / 1000)
    return statistics.median(taken)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--requests", type=int, default=200_000)
    arguments.add_argument("--keys", type=int, default=1000, help="how many there are")
    wanted = arguments.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'registry.sqlite3'}"
        migrations.upgrade(url)
        database = Database(url)
        cases: list[tuple[str, Gate, Sequence[tuple[bytes, bytes]]]] = []
        cases.append(("no keys: Host and Origin", _gate(database), _SENT))
        plain, bounded = _made(database, wanted.keys)
        gate = _gate(database)
        cases.append(("a key", gate, [*_SENT, (b"authorization", b"Bearer " + plain.encode())]))
        cases.append(("a key for some models, with a rate", gate, [*_SENT, (b"x-api-key", bounded.encode())]))
        print(f"{this_cpu().model}, {wanted.keys} keys\n\n| request | µs |\n|---|---|")
        most = 0.0
        for name, each, headers in cases:
            took = microseconds(each, headers, wanted.requests)
            most = max(most, took)
            print(f"| {name} | {took:.2f} |")
        database.close()
    print(f"\n{'met' if most <= _MOST_US else 'MISSED'}: at most {_MOST_US:g} µs a request")


def _gate(database: Database) -> Gate:
    keyring = Keyring(database)
    keyring.look()
    return Gate(keyring, database, Exposure(frozenset(), frozenset(), any_host=False))


def _made(database: Database, count: int) -> tuple[str, str]:
    with database.writing() as session:
        for number in range(count - 2):
            keys.create(session, NewKey(f"k{number}", Scope.infer))
        plain = keys.create(session, NewKey("plain", Scope.infer))[1]
        return plain, keys.create(session, NewKey("bounded", Scope.infer, models="resnet*", rate=1e6, burst=10**9))[1]


if __name__ == "__main__":
    main()
