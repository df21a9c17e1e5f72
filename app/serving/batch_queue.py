"""One variant's requests: in line, joined, computed, and split again."""

import itertools
import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

from app.engines import LoadedModel
from app.engines.engine import Array
from app.errors import Crashed, DeadlineUnmet, Quarantined, QueueFull, Unavailable
from app.isolation.engine import RunnerModel
from app.serving.batches import NotOneRowEach, Work, joined, split
from app.serving.cost_model import CostModel
from app.serving.padding import NotPadded, Padding
from app.serving.pool import Artifact, Lease, Pool
from app.serving.priority_queue import DEFAULT_PRIORITY, PriorityQueue
from app.serving.statistics import ComputeTime, Key, Statistics
from app.serving.threads import ComputeThreads
from app.serving.timer import Timer

_log = logging.getLogger(__name__)

# A batch that takes longer than this is worth waking idle threads to share it.
_SHARED_FROM_NS = 1_000_000
# A run that takes less than this is over sooner than another thread could begin it; where only one computes, no other
# request could be computed meanwhile either.
_INLINE_NS = 100_000
_INLINE_ALONE_NS = 500_000


@dataclass(frozen=True)
class BatchLimits:
    """Rows that one batch may have; how long a batch that could be larger waits for company; rows that may wait."""

    batch_rows: int = 32
    delay_ns: int = 0
    waiting_rows: int = 4096


@dataclass(frozen=True)
class Target:
    """Whose requests these are. `joins`: several may be answered in one batch, of different length with `padding`.

    `steady`: as in `app.serving.steady`.
    """

    model: str
    version: int
    artifact: Artifact
    joins: bool
    padding: Padding | None = None
    steady: bool = False

    @cached_property
    def key(self) -> Key:
        """What it is counted under."""
        return (self.model, self.version)

    def __hash__(self) -> int:
        # Looked up for each request.
        return hash(self.artifact)


class Timing(NamedTuple):
    """How an answer came about: the time in the queue, the rows of its batch, and what the whole batch took."""

    queue_ns: int
    batch_rows: int
    compute: ComputeTime


class Answer(NamedTuple):
    """The outputs in the order in which they were asked for, and how they came about."""

    arrays: Sequence[Array]
    timing: Timing


class Pending(Future[Answer]):
    """A request in line. Cancelled before its turn, it is not computed."""

    def __init__(self, queue: "BatchQueue", work: Work, number: int, now_ns: int) -> None:
        super().__init__()
        self.work = work
        self.priority = work.priority or DEFAULT_PRIORITY
        self.number = number
        self.rows = work.rows
        self.elements = work.elements
        self.signature = work.signature(queue.padding) if queue.joins else None
        self.entered_ns = now_ns
        self.deadline_ns = None if work.timeout_us is None else now_ns + work.timeout_us * 1000
        self._queue = queue

    def cancel(self) -> bool:
        cancelled = super().cancel()
        if cancelled:
            self._queue.forget(self)
        return cancelled


class BatchQueue:
    """Takes requests from any thread. A turn, in a compute thread, takes a batch; while more wait, it asks for another.

    So a free thread takes what waits just then, and no request of an idle server waits for company; and queues take
    turns, so that none holds up the others for longer than a batch. A turn never waits for a model to load.
    """

    def __init__(
        self,
        target: Target,
        pool: Pool,
        threads: ComputeThreads,
        timer: Timer,
        limits: BatchLimits,
        statistics: Statistics,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._target = target
        self._pool = pool
        self._threads = threads
        self._timer = timer
        self._limits = limits
        self._statistics = statistics
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: PriorityQueue[Pending] = PriorityQueue()
        self._costs = CostModel()
        self._numbers = itertools.count()
        self._turn_due = False
        self._may_run_inline = target.steady and not limits.delay_ns
        self._inline_ns = _INLINE_NS if threads.count > 1 else _INLINE_ALONE_NS
        self._timer_ns: int | None = None
        #: May become false: some models tell only when they run that they take no batches.
        self.joins: bool = target.joins
        #: May become None likewise. What waits then is still padded, and falls back.
        self.padding: Padding | None = target.padding

    @property
    def idle(self) -> bool:
        with self._lock:
            return not self._waiting and not self._turn_due

    def submit(self, work: Work) -> Pending:
        """The answer to come, or the error of the model or its load. Never blocks.

        Raises `QueueFull`, or `DeadlineUnmet` when the answer would come too late.
        """
        pending = Pending(self, work, next(self._numbers), self._clock())
        with self._lock:
            self._check_accepts(work, pending.entered_ns)
            self._waiting.add(pending)
            starts = self._arrange(pending.entered_ns)
            self._ring_at(pending.deadline_ns)
        if starts:
            self._threads.submit(self._turn)
        return pending

    def run_inline(self, work: Work) -> Answer | None:
        """The answer, computed in the calling thread, if that takes next to no time and nobody else waits; else None.

        Raises as `submit` and its future do.
        """
        if not self._may_run_inline:
            return None
        now = self._clock()
        with self._lock:
            if self._waiting or self._turn_due or not 0 < self._costs.expected_ns(work.elements, now) < self._inline_ns:
                return None
            if work.timeout_us is not None:
                self._check_accepts(work, now)
        if not self._threads.borrow():
            return None
        try:
            lease = self._pool.acquire_loaded(self._target.artifact)
            if lease is None:
                return None
            try:
                # Another process answers when it likes, and the caller may be the event loop.
                return None if isinstance(lease.model, RunnerModel) else self._run_single(work, now, lease.model)
            finally:
                lease.release()
        finally:
            self._threads.give_back()

    def _run_single(self, work: Work, entered_ns: int, model: LoadedModel) -> Answer:
        """Run one request as it is: nothing is joined or split, and no time is counted for that."""
        start = self._clock()
        try:
            arrays = model.run(work.feeds, work.outputs)
        except Exception:
            self._statistics.record_failure(self._target.key, self._clock() - entered_ns)
            raise
        end = self._clock()
        queue_ns, infer_ns = start - entered_ns, end - start
        with self._lock:
            self._costs.ran(work.elements, infer_ns, end)
        self._statistics.record_single(self._target.key, work.rows, queue_ns, infer_ns)
        return Answer(arrays, Timing(queue_ns, work.rows, ComputeTime(0, infer_ns, 0)))

    def forget(self, pending: Pending) -> None:
        """It was cancelled."""
        with self._lock:
            self._waiting.remove(pending)

    def close(self) -> None:
        """Fail all who wait."""
        with self._lock:
            left = list(self._everyone())
        self._fail_all(left, Unavailable("the server is stopping"))

    def _check_accepts(self, work: Work, now_ns: int) -> None:
        error = self._refusal(work, now_ns)
        if error is not None:
            self._statistics.record_failure(self._target.key, 0)
            raise error

    def _refusal(self, work: Work, now_ns: int) -> Unavailable | None:
        waiting = self._waiting.rows
        if waiting and waiting + work.rows > self._limits.waiting_rows:
            return QueueFull(self._target.model, waiting)
        if work.timeout_us is not None:
            priority = work.priority or DEFAULT_PRIORITY
            before = self._costs.expected_ns(self._waiting.elements_before(priority), now_ns) // self._threads.count
            if self._is_late(work, now_ns + work.timeout_us * 1000, now_ns + before):
                return DeadlineUnmet(self._target.model)
        return None

    def _is_late(self, work: Work, deadline_ns: int | None, start_ns: int) -> bool:
        if deadline_ns is None:
            return False
        return start_ns + self._costs.expected_ns(work.elements, start_ns) >= deadline_ns

    def _arrange(self, now_ns: int) -> bool:
        """Whether a turn is to be asked for now. Where it is too early, sees to it that this is called again."""
        if self._turn_due or not self._waiting:
            return False
        complete = self._waiting.rows >= self._limits.batch_rows or not self.joins
        if not complete and now_ns - self._waiting.oldest_ns() < self._limits.delay_ns:
            self._ring_at(self._waiting.oldest_ns() + self._limits.delay_ns)
            return False
        self._turn_due = True
        return True

    def _ring_at(self, when_ns: int | None) -> None:
        if when_ns is not None and (self._timer_ns is None or when_ns < self._timer_ns):
            self._timer_ns = when_ns
            self._timer.at(when_ns, partial(self._rang, when_ns))

    def _rang(self, when_ns: int) -> None:
        """Refuse who is too late, rather than have them wait until it is their turn; then go on."""
        with self._lock:
            if self._timer_ns != when_ns:  # an earlier one was set after this, and set the next
                return
            self._timer_ns = None
            now = self._clock()
            late = [
                pending for pending in self._waiting if pending.deadline_ns is not None and pending.deadline_ns <= now
            ]
            for pending in late:
                self._waiting.remove(pending)
            starts = self._arrange(now)
            self._ring_at(self._waiting.earliest_deadline_ns())
        if starts:
            self._threads.submit(self._turn)
        self._fail_all(late, DeadlineUnmet(self._target.model))

    def _turn(self, lease: Lease | None = None) -> None:
        """Compute one batch. Where the model is not loaded, the turn is had when it is."""
        lease = lease or self._pool.acquire_loaded(self._target.artifact)
        if lease is None:
            self._pool.acquire(self._target.artifact).add_done_callback(self._loaded)
            return
        try:
            batch, late = self._next_batch()
            self._fail_all(late, DeadlineUnmet(self._target.model))
            if not batch:
                return
            gone = self._compute(batch, lease.model)
        finally:
            lease.release()
        if gone is not None:
            self._compute_anew(batch, gone)

    def _loaded(self, loading: "Future[Lease]") -> None:
        error = loading.exception()
        if error is None:
            lease = loading.result()
            self._threads.submit(lambda: self._turn(lease))
            return
        with self._lock:
            self._turn_due = False
            everyone = list(self._everyone())
        self._fail_all(everyone, self._named(error))

    def _named(self, error: BaseException) -> BaseException:
        """The error as the client can make sense of it."""
        return error.of(self._target.model) if isinstance(error, Crashed | Quarantined) else error

    def _everyone(self) -> Iterator[Pending]:
        """All who wait, out of line."""
        while batch := self._waiting.take(self._limits.batch_rows):
            yield from batch

    def _next_batch(self) -> tuple[list[Pending], list[Pending]]:
        """Who is computed now, and who is too late for it. Asks for another turn when there are more."""
        batch: list[Pending] = []
        late: list[Pending] = []
        with self._lock:
            now = self._clock()
            while not batch and self._waiting:
                for pending in self._waiting.take(self._rows_at_once(now)):
                    if self._is_late(pending.work, pending.deadline_ns, now):
                        late.append(pending)
                    elif pending.set_running_or_notify_cancel():
                        batch.append(pending)
            self._turn_due = bool(self._waiting)
            more = self._turn_due
        if more:
            self._threads.submit(self._turn)
        return batch, late

    def _rows_at_once(self, now_ns: int) -> int:
        """The most rows of the next batch: no more than pays, and idle threads get their share of what takes long."""
        rows = min(self._waiting.rows, self._limits.batch_rows)
        idle = self._threads.idle()
        if idle and self._costs.expected_ns(self._waiting.elements, now_ns) >= _SHARED_FROM_NS:
            rows = min(rows, -(-self._waiting.rows // (idle + 1)))
        return self._costs.paying_rows(rows, self._waiting.elements // self._waiting.rows, now_ns)

    def _compute_anew(self, batch: list[Pending], gone: Crashed) -> None:
        """Compute `batch`, for which the model was `gone` before it came, with the model started again.

        The thread waits for that: it is rare, and takes milliseconds.
        """
        try:
            lease = self._pool.acquire(self._target.artifact).result()
        except Exception as error:  # noqa: BLE001 - told to who asked
            self._fail_all(batch, self._named(error))
            return
        try:
            again = self._compute(batch, lease.model)
        finally:
            lease.release()
        if again is not None:
            self._fail_all(batch, self._named(gone))

    def _compute(self, batch: list[Pending], model: LoadedModel) -> Crashed | None:
        """Answer all of `batch`. One that fails is run again request by request: only who is wrong gets the error.

        Where the model's process was gone before anything of `batch` reached it, that is returned, and nobody answered.
        """
        error = self._attempt(batch, model)
        if error is None:
            return None
        if isinstance(error, Crashed):
            if error.before:
                return error
            self._fail_all(batch, self._named(error))
            return None
        # What failed must not keep the model in memory for as long as somebody looks at the error.
        traceback.clear_frames(error.__traceback__)
        if len(batch) == 1:
            self._fail_all(batch, error)
            return None
        for pending in batch:
            crashed = self._compute([pending], model)
            if crashed is not None:
                self._fail_all([pending], self._named(crashed))
        if isinstance(error, NotOneRowEach | NotPadded) or not any(pending.exception() for pending in batch):
            self._give_up(batch, error)
        return None

    def _give_up(self, batch: list[Pending], error: Exception) -> None:
        """No more batches of the kind of `batch`, which failed for no fault of a request."""
        if self._unequal([pending.work for pending in batch]) is None:
            self.joins, kind = False, "batches"
        else:
            self.padding, kind = None, "padding"
        _log.warning("no more %s for model '%s': all went well alone, but: %r", kind, self._target.model, error)

    def _unequal(self, works: Sequence[Work]) -> list[int] | None:
        """The lengths of the sequences, where they differ, and all but the longest are padded."""
        padding = self._target.padding
        return None if padding is None else padding.unequal([work.feeds for work in works])

    def _attempt(self, batch: list[Pending], model: LoadedModel) -> Exception | None:
        try:
            self._answer(batch, model)
        except Exception as error:  # noqa: BLE001 - told to who asked
            return error
        return None

    def _answer(self, batch: list[Pending], model: LoadedModel) -> None:
        answers = self._ran([pending.work for pending in batch], [pending.entered_ns for pending in batch], model)
        for pending, answer in zip(batch, answers, strict=True):
            pending.set_result(answer)

    def _ran(self, works: Sequence[Work], entered_ns: Sequence[int], model: LoadedModel) -> list[Answer]:
        """Run `works` as one batch, and take note of it."""
        start = self._clock()
        feeds = joined(works)
        fed = self._clock()
        outputs = works[0].outputs
        arrays = model.run(feeds, None if outputs is None else list(outputs))
        ran = self._clock()
        parts = self._split(arrays, works, outputs or [spec.name for spec in model.outputs])
        done = self._clock()
        compute = ComputeTime(fed - start, ran - fed, done - ran)
        rows = sum(work.rows for work in works)
        with self._lock:
            self._costs.ran(sum(array.size for array in feeds.values()), done - start, done)
        queues = [start - entered for entered in entered_ns]
        self._statistics.record(self._target.key, rows=rows, queues_ns=queues, compute=compute)
        return [Answer(part, Timing(queue_ns, rows, compute)) for part, queue_ns in zip(parts, queues, strict=True)]

    def _split(self, arrays: Sequence[Array], works: Sequence[Work], names: Sequence[str]) -> list[list[Array]]:
        rows = [work.rows for work in works]
        lengths, padding = self._unequal(works), self._target.padding
        if lengths is None or padding is None:
            return split(arrays, rows)
        padding.check_padded(names, arrays, max(lengths))
        return [padding.cut(names, part, length) for part, length in zip(split(arrays, rows), lengths, strict=True)]

    def _fail_all(self, pendings: Sequence[Pending], error: BaseException) -> None:
        for pending in pendings:
            # One that is cancelled at this moment has nobody who would want to know.
            if pending.running() or pending.set_running_or_notify_cancel():
                took = self._clock() - pending.entered_ns
                self._statistics.record_failure(self._target.key, took)
                pending.set_exception(error)
