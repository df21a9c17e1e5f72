"""Shadows: variants that answer some of the control's requests once more, for their answers to be compared.

Each pair is computed by the control and by the variant one after the other, in random order, in a thread that any other
takes the core from. So no user waits for it; and its times, which are those of the CPU, are of the two under
the same conditions, unlike those of arms that disturb each other.
"""

import logging
import queue
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from app.engines.classes import find_class_output
from app.engines.engine import Array, LoadedModel
from app.experiments.recorder import Pair, Recorder
from app.serving.batches import Work
from app.serving.pool import Artifact, Pool
from app.serving.threads import only_when_idle

_log = logging.getLogger(__name__)

#: All outputs, and the nanoseconds that they took.
Answer = tuple[Sequence[Array], int]

#: Requests that wait for their shadows; of more, the newest are dropped.
_WAITING = 64


@dataclass(frozen=True)
class Shadowed:
    """A request that `control` has answered, and that `variant`, of `artifact`, is to answer too."""

    experiment: str
    arms: Sequence[str]
    variant: str
    artifact: Artifact
    control: Artifact
    work: Work
    request_id: str


class Shadows:
    """One thread, and one more in which the models run, which gets a core only when nobody else wants it.

    Nothing but the run is left to that one: whoever is kept from a core for long must hold no lock of others meanwhile,
    least of all Python's. `offer` never blocks.
    """

    def __init__(self, pool: Pool, recorder: Recorder) -> None:
        self._pool = pool
        self._recorder = recorder
        self._waiting: queue.Queue[Shadowed | None] = queue.Queue(_WAITING)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="octet-shadow", daemon=True)
        self._idle = ThreadPoolExecutor(1, "octet-shadow-run", only_when_idle)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """What waits is dropped."""
        self._stopping = True
        with suppress(queue.Full):
            self._waiting.put_nowait(None)
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        self._idle.shutdown(wait=False, cancel_futures=True)

    def offer(self, shadowed: Shadowed) -> bool:
        """Whether it will be computed; not while many wait."""
        try:
            self._waiting.put_nowait(shadowed)
        except queue.Full:
            return False
        return True

    def _run(self) -> None:
        while True:
            shadowed = self._waiting.get()
            if shadowed is None or self._stopping:
                return
            try:
                self._compute(shadowed)
            except Exception as error:  # noqa: BLE001 - no user asked for it; the thread goes on
                _log.warning("shadow '%s' gave no answer: %s", shadowed.variant, error)
            del shadowed

    def _compute(self, shadowed: Shadowed) -> None:
        both = [shadowed.control, shadowed.artifact]
        random.shuffle(both)
        answers = {artifact: self._answer(artifact, shadowed.work) for artifact in both}
        pair = paired(answers[shadowed.control], answers[shadowed.artifact], shadowed.work.rows)
        self._recorder.paired(shadowed.experiment, shadowed.arms, shadowed.variant, pair, shadowed.request_id)

    def _answer(self, artifact: Artifact, work: Work) -> Answer:
        with self._pool.lease(artifact) as model:
            return self._idle.submit(_timed, model, work).result()


def _timed(model: LoadedModel, work: Work) -> Answer:
    begun = time.thread_time_ns()
    outputs = model.run(work.feeds, None)
    return outputs, time.thread_time_ns() - begun


def paired(control: Answer, variant: Answer, rows: int) -> Pair:
    """Two answers to one request of `rows` rows, compared: each all outputs of its variant, and the time they took."""
    (right, control_ns), (other, variant_ns) = control, variant
    top_1 = find_class_output(right, rows)
    classes = (top_1.read(right), top_1.read(other)) if top_1 is not None else None
    floats = [
        (mine.ravel().astype(np.float64), its.ravel().astype(np.float64))
        for mine, its in zip(right, other, strict=True)
        if mine.dtype.kind == "f" and mine.shape == its.shape
    ]
    return Pair(
        control_ns,
        variant_ns,
        agree=bool((classes[0] == classes[1]).all()) if classes is not None else None,
        cosine=_cosine(*floats[0]) if floats else None,
        max_abs_difference=max((float(np.abs(mine - its).max(initial=0)) for mine, its in floats), default=0.0),
        # A label is one number: of requests of more rows it could not say which row it is of.
        classes=(int(classes[0][0]), int(classes[1][0])) if classes is not None and rows == 1 else None,
    )


def _cosine(mine: Array, its: Array) -> float | None:
    norms = float(np.linalg.norm(mine) * np.linalg.norm(its))
    return float(mine @ its) / norms if norms and np.isfinite(norms) else None
