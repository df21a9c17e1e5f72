"""What each variant has answered so far.

Counts live as long as the process and the variant do. Of several gateway processes each keeps its own, and what is told
is their sum.
"""

import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

#: Upper bounds, in seconds, of the classes that waiting and computing are counted in; a last class has none.
SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_NS = tuple(int(bound * 1e9) for bound in SECONDS)


class ComputeTime(NamedTuple):
    """One run of a variant, in nanoseconds: feeds made of the requests, the engine, answers made of its outputs."""

    input_ns: int
    infer_ns: int
    output_ns: int

    @property
    def total_ns(self) -> int:
        return self.input_ns + self.infer_ns + self.output_ns


@dataclass
class Total:
    count: int = 0
    ns: int = 0

    def add(self, ns: int, count: int = 1) -> None:
        self.count += count
        self.ns += ns

    def merge(self, other: "Total") -> None:
        self.add(other.ns, other.count)


@dataclass
class Spread:
    """How many took how long: `counts` by the classes of `SECONDS`."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(SECONDS) + 1))

    def add(self, ns: int, count: int = 1) -> None:
        self.counts[bisect_left(_NS, ns)] += count

    def merge(self, other: "Spread") -> None:
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]


@dataclass
class Compute:
    input: Total = field(default_factory=Total)
    infer: Total = field(default_factory=Total)
    output: Total = field(default_factory=Total)

    def add(self, compute: ComputeTime, count: int = 1) -> None:
        self.input.add(compute.input_ns * count, count)
        self.infer.add(compute.infer_ns * count, count)
        self.output.add(compute.output_ns * count, count)

    def merge(self, other: "Compute") -> None:
        self.input.merge(other.input)
        self.infer.merge(other.infer)
        self.output.merge(other.output)


@dataclass
class Tally:
    """Of one variant. `rows` and `executions` count successes; `requests` is the compute time that each waited for,
    that of its whole batch; `batches` has each batch once, by its rows.
    """

    last_inference_ms: int = 0
    rows: int = 0
    executions: int = 0
    success: Total = field(default_factory=Total)
    fail: Total = field(default_factory=Total)
    queue: Total = field(default_factory=Total)
    queue_spread: Spread = field(default_factory=Spread)
    infer_spread: Spread = field(default_factory=Spread)
    requests: Compute = field(default_factory=Compute)
    batches: dict[int, Compute] = field(default_factory=dict)

    def merge(self, other: "Tally") -> None:
        self.last_inference_ms = max(self.last_inference_ms, other.last_inference_ms)
        self.rows += other.rows
        self.executions += other.executions
        self.success.merge(other.success)
        self.fail.merge(other.fail)
        self.queue.merge(other.queue)
        self.queue_spread.merge(other.queue_spread)
        self.infer_spread.merge(other.infer_spread)
        self.requests.merge(other.requests)
        for rows, compute in other.batches.items():
            self.batches.setdefault(rows, Compute()).merge(compute)


#: A model, and an integer version of it.
Key = tuple[str, int]


class Statistics:
    """One tally for each (model, integer version). All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tallies: dict[Key, Tally] = {}

    def record(self, key: Key, *, rows: int, queues_ns: Sequence[int], compute: ComputeTime) -> None:
        """One run that answered `len(queues_ns)` requests of `rows` rows together, each after its time in the queue."""
        requests = len(queues_ns)
        with self._lock:
            tally = self._tally(key)
            tally.last_inference_ms = time.time_ns() // 1_000_000
            tally.rows += rows
            tally.executions += 1
            tally.queue.add(sum(queues_ns), requests)
            for queue_ns in queues_ns:
                tally.queue_spread.add(queue_ns)
            tally.infer_spread.add(compute.infer_ns)
            tally.success.add(sum(queues_ns) + compute.total_ns * requests, requests)
            tally.requests.add(compute, requests)
            batch = tally.batches.get(rows)
            if batch is None:
                batch = tally.batches[rows] = Compute()
            batch.add(compute)

    def record_single(self, key: Key, rows: int, queue_ns: int, infer_ns: int) -> None:
        """As `record`, for a run of one request of `rows` rows, for which nothing was joined or split.

        Adds to the fields directly: this is part of the cost of each small request.
        """
        with self._lock:
            tally = self._tallies.get(key) or self._tally(key)
            batch = tally.batches.get(rows)
            if batch is None:
                batch = tally.batches[rows] = Compute()
            tally.last_inference_ms = time.time_ns() // 1_000_000
            tally.rows += rows
            tally.executions += 1
            tally.queue_spread.counts[bisect_left(_NS, queue_ns)] += 1
            tally.infer_spread.counts[bisect_left(_NS, infer_ns)] += 1
            tally.queue.count += 1
            tally.queue.ns += queue_ns
            tally.success.count += 1
            tally.success.ns += queue_ns + infer_ns
            for compute in (tally.requests, batch):
                compute.input.count += 1
                compute.infer.count += 1
                compute.infer.ns += infer_ns
                compute.output.count += 1

    def record_failure(self, key: Key, ns: int) -> None:
        """One request that reached the variant and got no answer from it, after `ns`."""
        with self._lock:
            self._tally(key).fail.add(ns)

    def snapshot(self) -> dict[Key, Tally]:
        """A copy of all tallies."""
        with self._lock:
            return merged([self._tallies])

    def keys(self) -> set[Key]:
        """Of which there is a tally."""
        with self._lock:
            return set(self._tallies)

    def forget(self, keys: Iterable[Key]) -> None:
        """Those of variants that there are no more: others may come to have their names."""
        with self._lock:
            for key in keys:
                self._tallies.pop(key, None)

    def _tally(self, key: Key) -> Tally:
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally()
        return tally


def merged(all_tallies: Sequence[Mapping[Key, Tally]]) -> dict[Key, Tally]:
    """The sums, in tallies of their own."""
    sums: dict[Key, Tally] = {}
    for tallies in all_tallies:
        for key, tally in tallies.items():
            sums.setdefault(key, Tally()).merge(tally)
    return sums
