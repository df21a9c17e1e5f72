"""What queues need, over a model that does as the test says and records what it was run with."""

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from app.engines import TensorSpec
from app.engines.engine import Array
from app.errors import Invalid
from app.serving.batch_queue import Answer, BatchLimits, BatchQueue, Target
from app.serving.batches import Work
from app.serving.loading import Artifact
from app.serving.padding import Padding
from app.serving.pool import Pool
from app.serving.statistics import Statistics, Tally
from app.serving.threads import ComputeThreads
from app.serving.timer import Timer

SOON_S = 30
BAD = -1.0


class Model:
    """`x` [rows, …] → `double` [rows, …]. Refuses any batch with `BAD` in it; waits while `gate` is closed."""

    inputs = (TensorSpec("x", "FP32", (-1, -1)),)
    outputs = (TensorSpec("double", "FP32", (-1, -1)),)

    def __init__(self) -> None:
        self.batches: list[Array] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self.answer: Callable[[Array], Array] = lambda x: x * 2

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
        x = feeds["x"]
        self.batches.append(x)
        self.entered.release()
        assert self.gate.wait(SOON_S)
        if (x == BAD).any():
            raise Invalid("the model refused these inputs")
        return [self.answer(x)]

    def shut(self) -> None:
        self.gate.clear()


class Engine:
    name = "fake"

    def __init__(self) -> None:
        self.model = Model()
        self.error: Exception | None = None

    def load(self, path: Path, *, intra_op_threads: int, arena: bool = True) -> Model:
        if self.error is not None:
            raise self.error
        return self.model


class House:
    """All that a queue needs. `now`: its clock, where a test sets one."""

    def __init__(self, pool: Pool, engine: Engine, artifact: Artifact) -> None:
        self.pool = pool
        self.engine = engine
        self.target = Target("linear", 1, artifact, joins=True)
        self.statistics = Statistics()
        self.now: int | None = None
        self._ticks = itertools.count(1)
        self._threads: list[ComputeThreads] = []
        self._timers: list[Timer] = []

    @property
    def model(self) -> Model:
        return self.engine.model

    def tally(self) -> Tally:
        return self.statistics.snapshot()["linear", 1]

    def clock(self) -> int:
        return next(self._ticks) if self.now is None else self.now

    def queue(
        self,
        *,
        threads: int = 1,
        joins: bool = True,
        padding: Padding | None = None,
        steady: bool = False,
        loaded: bool = True,
        **limits: int,
    ) -> BatchQueue:
        self._threads.append(ComputeThreads(threads))
        if loaded:
            self.pool.load(self.target.artifact)
            self.model.batches.clear()
            self.model.entered = threading.Semaphore(0)
        target = replace(self.target, joins=joins, padding=padding, steady=steady)
        self._timers.append(Timer(self.clock))
        return BatchQueue(
            target, self.pool, self._threads[-1], self._timers[-1], BatchLimits(**limits), self.statistics, self.clock
        )

    def occupied(self, queue: BatchQueue) -> Any:
        """A request that computes until the model's gate opens, so that others have to wait."""
        self.model.shut()
        first = queue.submit(work(1000))
        assert self.model.entered.acquire(timeout=SOON_S)
        return first

    def close(self) -> None:
        self.model.gate.set()
        for timer in self._timers:
            timer.close()
        for threads in self._threads:
            threads.close()


def work(*values: float, width: int = 1, **changes: Any) -> Work:
    return Work({"x": np.repeat(np.array(values, np.float32)[:, None], width, axis=1)}, ("double",), **changes)


def values(answer: Answer) -> list[float]:
    (double,) = answer.arrays
    return [float(value) for value in double[:, 0]]


def ran(model: Model) -> list[list[float]]:
    return [[float(value) for value in batch[:, 0]] for batch in model.batches]
