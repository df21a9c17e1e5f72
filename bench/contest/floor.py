"""The floor: `session.run` in a bare loop, in a process of its own on the servers' cores, with Octet's own settings."""

import multiprocessing
import os
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from app import engines
from app.engines import LoadedModel
from contest.cases import Array, Case
from contest.load import Turn

_WARMUP_SECONDS = 0.2


class Floor:
    def __init__(self, cores: Collection[int]) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_answer, args=(theirs, set(cores)), daemon=True)
        self._process.start()
        theirs.close()

    def turn(self, case: Case, seconds: float) -> Turn:
        """Single requests one after the other, in as many threads as there are cores."""
        self._ours.send((case.artifact, case.samples, seconds))
        return self._ours.recv()  # type: ignore[no-any-return]

    def stop(self) -> None:
        self._ours.send(None)
        self._process.join()


def _answer(pipe: Connection, cores: set[int]) -> None:
    os.sched_setaffinity(0, cores)
    models: dict[Path, LoadedModel] = {}
    while (asked := pipe.recv()) is not None:
        artifact, samples, seconds = asked
        if artifact not in models:
            models[artifact] = engines.get("onnxruntime").load(artifact, intra_op_threads=1)
        pipe.send(_loop(models[artifact], samples, seconds, len(cores)))


def _loop(model: LoadedModel, samples: Sequence[Mapping[str, Array]], seconds: float, threads: int) -> Turn:
    latencies: list[float] = []
    begun = time.perf_counter() + _WARMUP_SECONDS

    def loop() -> None:
        number, now = 0, time.perf_counter()
        while now < begun + seconds:
            before = now
            model.run(samples[number % len(samples)])
            now = time.perf_counter()
            number += 1
            if before >= begun:
                latencies.append(now - before)

    loops = [threading.Thread(target=loop) for _ in range(threads)]
    for each in loops:
        each.start()
    for each in loops:
        each.join()
    return Turn(np.array(latencies) * 1e3, len(latencies), seconds)
