"""What this process has counted of running experiments, kept in memory and written to the registry within a second.

Each process writes sums of its own, which are added up when they are read. So a process that is killed loses what it
counted in its last second, and nothing is ever counted twice.
"""

import os
import socket
import threading
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from app.experiments.assignment import Place
from app.experiments.counts import Counts
from app.periodic import Periodic
from app.registry import Database, experiments
from app.registry.experiments import NewExposure

_EVERY_S = 0.5
#: Exposures of one experiment that wait while the registry does not answer; of more, the oldest are dropped.
_MOST_EXPOSURES = 200_000


@dataclass(frozen=True)
class Pair:
    """What became of one request that the control and a shadow have answered: as `Pairs.add` takes it."""

    control_ns: int
    variant_ns: int
    agree: bool | None
    cosine: float | None
    max_abs_difference: float


class Recorder:
    """May be called from any thread; a call takes a few microseconds. A thread of its own writes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._process = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"[:255]
        self._lock = threading.Lock()
        self._fresh: dict[str, Counts] = {}
        # Which arm answered which request: what an outcome that names the request is counted by.
        self._exposures: dict[str, list[NewExposure]] = {}
        # All that this process has counted: touched by whoever writes alone.
        self._total: dict[str, Counts] = {}
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

    def paired(self, experiment: str, arms: Sequence[str], variant: str, pair: Pair) -> None:
        """A shadow has answered, too."""
        with self._lock:
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
                exposures, self._exposures = self._exposures, {}
            if not fresh:
                return
            for experiment, counts in fresh.items():
                if experiment in self._total:
                    self._total[experiment].merge(counts)
                else:
                    self._total[experiment] = counts
            try:
                self._write(fresh, exposures)
            except BaseException:
                with self._lock:
                    for experiment, counts in fresh.items():
                        later = self._exposures.get(experiment, [])
                        self._exposures[experiment] = [*exposures.get(experiment, ()), *later][-_MOST_EXPOSURES:]
                        # An empty one says that there is something to write.
                        self._fresh.setdefault(experiment, Counts(counts.arms))
                raise

    def _write(self, changed: Iterable[str], exposures: Mapping[str, Sequence[NewExposure]]) -> None:
        counts = {experiment: self._total[experiment].to_json() for experiment in changed}
        with self._database.writing() as session:
            for experiment, counted in counts.items():
                # One that was deleted with its model meanwhile has nobody who would want to know.
                if experiments.save_counts(session, experiment, self._process, counted):
                    experiments.add_exposures(session, experiment, exposures.get(experiment, ()))

    def _of(self, experiment: str, arms: Sequence[str]) -> Counts:
        counts = self._fresh.get(experiment)
        if counts is None:
            counts = self._fresh[experiment] = Counts(arms)
        return counts

    def _exposed(self, experiment: str, place: Place, request_id: str) -> None:
        assert place.variant is not None
        exposure = NewExposure(request_id, place.variant, place.bucket, place.key, datetime.now(UTC))
        self._exposures.setdefault(experiment, []).append(exposure)
