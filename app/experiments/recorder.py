"""What this process has counted of running experiments, kept in memory and written to the registry within a second.

Each process writes sums of its own, which are added up when they are read. So a process that is killed loses what it
counted in its last second, and nothing is ever counted twice.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from app.experiments.assignment import Place
from app.experiments.counts import Counts
from app.periodic import Periodic
from app.registry import Database, records
from app.registry.database import NOTHING
from app.registry.records import NewExposure, NewPairedAnswer

_EVERY_S = 0.5
#: Exposures of one experiment that wait while the registry does not answer, and answers in pairs; of more, the oldest
#: are dropped.
_MOST_ROWS = 200_000
#: An experiment that nobody was counted in for so long is read from the registry again should somebody be.
_REMEMBERED_S = 600.0


@dataclass(frozen=True)
class Pair:
    """What became of one request that the control and a shadow have answered: as `Pairs.add` takes it.

    `classes`: the top-1 of the control and of the shadow; None where there is not one for each.
    """

    control_ns: int
    variant_ns: int
    agree: bool | None
    cosine: float | None
    max_abs_difference: float
    classes: tuple[int, int] | None = None


@dataclass
class _Rows:
    """What is to be kept singly of requests of one experiment."""

    exposures: list[NewExposure] = field(default_factory=list)
    paired: list[NewPairedAnswer] = field(default_factory=list)

    def then(self, later: "_Rows") -> "_Rows":
        """These and `later` ones, of which the newest are kept."""
        return _Rows(
            [*self.exposures, *later.exposures][-_MOST_ROWS:],
            [*self.paired, *later.paired][-_MOST_ROWS:],
        )


class Recorder:
    """May be called from any thread; a call takes a few microseconds. A thread of its own writes."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._process = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"[:255]
        self._lock = threading.Lock()
        self._fresh: dict[str, Counts] = {}
        # Who answered which request, and what: that by which an outcome or a label that names it is counted.
        self._rows: dict[str, _Rows] = {}
        # All that this process has counted of experiments that go on: touched by whoever writes alone.
        self._total: dict[str, Counts] = {}
        self._counted_at: dict[str, float] = {}
        self._clock = clock
        self._writing = threading.Lock()
        self._periodic = Periodic("recorder", _EVERY_S, self.flush)

    def start(self) -> None:
        self._periodic.start()

    def stop(self) -> None:
        """Write what is left."""
        self._periodic.stop()
        self._periodic.once()

    def answered(self, experiment: str, arms: Sequence[str], place: Place, latency_ns: int, request_id: str) -> None:
        """An arm answered a request of a unit after `latency_ns`."""
        with self._lock:
            self._of(experiment, arms).answered(place, latency_ns)
            self._exposed(experiment, place, request_id)

    def failed(self, experiment: str, arms: Sequence[str], place: Place, request_id: str) -> None:
        """An arm failed a request that the control answered."""
        with self._lock:
            self._of(experiment, arms).failed(place)
            self._exposed(experiment, place, request_id)

    def paired(self, experiment: str, arms: Sequence[str], variant: str, pair: Pair, request_id: str) -> None:
        """A shadow has answered, too."""
        with self._lock:
            if pair.classes is not None:
                answer = NewPairedAnswer(request_id, variant, *pair.classes, datetime.now(UTC))
                self._rows_of(experiment).paired.append(answer)
            self._of(experiment, arms).paired(
                variant,
                control_ns=pair.control_ns,
                variant_ns=pair.variant_ns,
                agree=pair.agree,
                cosine=pair.cosine,
                max_abs_difference=pair.max_abs_difference,
            )

    def flush(self) -> None:
        """Write what was counted since the last time. What cannot be written is kept for the next."""
        with self._writing:
            with self._lock:
                fresh, self._fresh = self._fresh, {}
                rows, self._rows = self._rows, {}
            if not fresh:
                return
            try:
                self._recall(fresh)
            except BaseException:
                self._put_back(fresh, rows)
                raise
            for experiment, counts in fresh.items():
                self._total[experiment].merge(counts)
            try:
                self._write(fresh, rows)
            except BaseException:
                # Empty ones say that there is something to write.
                self._put_back({experiment: Counts(counts.arms) for experiment, counts in fresh.items()}, rows)
                raise
            self._forget_others(fresh)

    def _recall(self, fresh: Mapping[str, Counts]) -> None:
        """Have the totals of these experiments in memory, which may have been forgotten."""
        missing = [experiment for experiment in fresh if experiment not in self._total]
        if not missing:
            return
        with self._database.reading() as session:
            for experiment in missing:
                kept = records.kept_counts(session, experiment, self._process)
                self._total[experiment] = Counts.from_json(kept) if kept else Counts(fresh[experiment].arms)

    def _put_back(self, fresh: Mapping[str, Counts], rows: Mapping[str, _Rows]) -> None:
        with self._lock:
            for experiment, counts in fresh.items():
                later = self._fresh.get(experiment)
                if later is not None:
                    counts.merge(later)
                self._fresh[experiment] = counts
                before, after = (each.get(experiment, _Rows()) for each in (rows, self._rows))
                self._rows[experiment] = before.then(after)

    def _forget_others(self, counted: Iterable[str]) -> None:
        """Of an experiment that has long ended nothing stays in memory."""
        at = self._clock()
        self._counted_at |= dict.fromkeys(counted, at)
        for experiment in [each for each, last in self._counted_at.items() if at - last > _REMEMBERED_S]:
            del self._counted_at[experiment], self._total[experiment]

    def _write(self, changed: Iterable[str], rows: Mapping[str, _Rows]) -> None:
        counts = {experiment: self._total[experiment].to_json() for experiment in changed}
        with self._database.writing(changes=NOTHING) as session:
            for experiment, counted in counts.items():
                # One that was deleted with its model meanwhile has nobody who would want to know.
                if records.save_counts(session, experiment, self._process, counted):
                    of = rows.get(experiment, _Rows())
                    records.add_exposures(session, experiment, of.exposures)
                    records.add_paired_answers(session, experiment, of.paired)

    def _of(self, experiment: str, arms: Sequence[str]) -> Counts:
        counts = self._fresh.get(experiment)
        if counts is None:
            counts = self._fresh[experiment] = Counts(arms)
        return counts

    def _exposed(self, experiment: str, place: Place, request_id: str) -> None:
        assert place.variant is not None
        exposure = NewExposure(request_id, place.variant, place.bucket, place.key, datetime.now(UTC))
        self._rows_of(experiment).exposures.append(exposure)

    def _rows_of(self, experiment: str) -> _Rows:
        rows = self._rows.get(experiment)
        if rows is None:
            rows = self._rows[experiment] = _Rows()
        return rows
