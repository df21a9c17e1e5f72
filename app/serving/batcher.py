"""From a request to the queue of its variant."""

import threading
from concurrent.futures import Future

from app.serving.batch_queue import Answer, BatchLimits, BatchQueue, Target
from app.serving.batches import Work
from app.serving.pool import Pool
from app.serving.statistics import Statistics
from app.serving.threads import ComputeThreads
from app.serving.timer import Timer

# Lanes are small, and those at rest are let go when there are more than these.
_MOST_QUEUES = 256


class Batcher:
    """Answers requests for all variants, `threads` batches at once. May be called from any thread."""

    def __init__(self, pool: Pool, statistics: Statistics, *, threads: int, limits: BatchLimits | None = None) -> None:
        self._pool = pool
        self._statistics = statistics
        self._limits = limits or BatchLimits()
        self._threads = ComputeThreads(threads)
        self._timer = Timer()
        self._lock = threading.Lock()
        self._queues: dict[Target, BatchQueue] = {}

    def submit(self, target: Target, work: Work) -> "Future[Answer]":
        """The answer to come; never blocks. Cancelled before its turn, the work is dropped.

        Raises `QueueFull`, or `DeadlineUnmet`, which the future may fail with too, besides the model's own errors and
        `InvalidModel`. For asyncio: `await asyncio.wrap_future(…)`.
        """
        return self._queue_of(target).submit(work)

    def run_inline(self, target: Target, work: Work) -> Answer | None:
        """The answer, if computing it here holds up the calling thread no longer than handing it on would; else None.

        Raises as `submit` and its future do.
        """
        return self._queue_of(target).run_inline(work)

    def close(self) -> None:
        """Compute what has a turn, fail what else waits, and end the threads."""
        self._timer.close()
        self._threads.close()
        for queue in list(self._queues.values()):
            queue.close()

    def _queue_of(self, target: Target) -> BatchQueue:
        queue = self._queues.get(target)
        if queue is not None:
            return queue
        with self._lock:
            if len(self._queues) >= _MOST_QUEUES:
                self._queues = {known: queue for known, queue in self._queues.items() if not queue.idle}
            queue = BatchQueue(target, self._pool, self._threads, self._timer, self._limits, self._statistics)
            return self._queues.setdefault(target, queue)
