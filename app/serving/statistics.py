"""What each variant has answered so far, in the terms of the protocol's statistics extension.

Counts live as long as the process. Of several gateway processes each tells of its own.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ComputeTime:
    """One run of a variant, in nanoseconds: feeds made of the requests, the engine, answers made of its outputs."""

    input_ns: int
    infer_ns: int
    output_ns: int

    @property
    def total_ns(self) -> int:
        return self.input_ns + self.infer_ns + self.output_ns


@dataclass
class _Total:
    count: int = 0
    ns: int = 0

    def add(self, ns: int, count: int = 1) -> None:
        self.count += count
        self.ns += ns

    def as_json(self) -> dict[str, int]:
        return {"count": self.count, "ns": self.ns}


_COMPUTE = ("compute_input", "compute_infer", "compute_output")


@dataclass
class _Compute:
    compute_input: _Total = field(default_factory=_Total)
    compute_infer: _Total = field(default_factory=_Total)
    compute_output: _Total = field(default_factory=_Total)

    def add(self, compute: ComputeTime, count: int = 1) -> None:
        self.compute_input.add(compute.input_ns * count, count)
        self.compute_infer.add(compute.infer_ns * count, count)
        self.compute_output.add(compute.output_ns * count, count)

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name).as_json() for name in _COMPUTE}


@dataclass
class _Tally:
    last_inference_ms: int = 0
    inference_count: int = 0
    execution_count: int = 0
    success: _Total = field(default_factory=_Total)
    fail: _Total = field(default_factory=_Total)
    queue: _Total = field(default_factory=_Total)
    requests: _Compute = field(default_factory=_Compute)
    batches: dict[int, _Compute] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "last_inference": self.last_inference_ms,
            "inference_count": self.inference_count,
            "execution_count": self.execution_count,
            "inference_stats": {
                "success": self.success.as_json(),
                "fail": self.fail.as_json(),
                "queue": self.queue.as_json(),
                **self.requests.as_json(),
                # There is no cache of responses; clients want the fields all the same.
                "cache_hit": _Total().as_json(),
                "cache_miss": _Total().as_json(),
            },
            "response_stats": {},
            "batch_stats": [
                {"batch_size": rows, **compute.as_json()} for rows, compute in sorted(self.batches.items())
            ],
        }


class Statistics:
    """One tally for each (model, integer version). All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tallies: dict[tuple[str, int], _Tally] = {}

    def record(self, model: str, version: int, *, rows: int, queues_ns: Sequence[int], compute: ComputeTime) -> None:
        """One run that answered `len(queues_ns)` requests of `rows` rows together, each after its time in the queue.

        Each request counts with the whole compute time of its batch, as it was what its client waited for.
        """
        requests = len(queues_ns)
        with self._lock:
            tally = self._tally(model, version)
            tally.last_inference_ms = time.time_ns() // 1_000_000
            tally.inference_count += rows
            tally.execution_count += 1
            tally.queue.add(sum(queues_ns), requests)
            tally.success.add(sum(queues_ns) + compute.total_ns * requests, requests)
            tally.requests.add(compute, requests)
            tally.batches.setdefault(rows, _Compute()).add(compute)

    def record_failure(self, model: str, version: int, ns: int) -> None:
        """One request that reached the variant and got no answer from it, after `ns`."""
        with self._lock:
            self._tally(model, version).fail.add(ns)

    def of(self, model: str, version: int) -> Mapping[str, Any]:
        """The fields of one entry of `model_stats`, all zero for a variant that has answered nothing."""
        with self._lock:
            return self._tallies.get((model, version), _Tally()).as_json()

    def _tally(self, model: str, version: int) -> _Tally:
        return self._tallies.setdefault((model, version), _Tally())
