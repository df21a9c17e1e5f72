"""Keeps the rows of experiments from growing without end: of what is old, sums are kept instead, and results stay.

Who answered a request is known for as long as its outcomes may come, and then folded, with those that did come, into
sums. What was reported of units is folded once the experiment has long ended, and takes no outcomes any more. Each
batch is one short transaction that takes rows and adds to the sums: at any moment, rows and sums together are all there
is, whoever is killed. Every gateway does it; the registry has each experiment in the hands of one.
"""

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from app.experiments.counts import Counts
from app.experiments.reports import ArmsOfUnits, add_labels
from app.periodic import Periodic
from app.registry import Database, Session, experiments, records, retention
from app.registry.database import NOTHING
from app.registry.tables import Experiment, now

_log = logging.getLogger(__name__)

_EVERY_S = 60.0
#: Rows that one transaction takes, and the time that others have the registry for before the next.
_BATCH = 1000
#: Of outcomes of units, more: the sums that are written with each batch then hold all units.
_UNITS_BATCH = 10_000
_PAUSE_S = 0.05
#: After closing, requests that saw it open may take so long to be answered.
_GRACE = timedelta(minutes=1)

#: Adds a batch of rows to the sums; returns how many there were.
Fold = Callable[[Session, Experiment, Counts], int]


class Retention:
    """A thread that looks once a minute."""

    def __init__(self, database: Database, *, outcome_hours: float, outcome_days: float) -> None:
        """`outcome_hours`: after a request, `outcome_days`: after an experiment, that outcomes may come."""
        self._database = database
        self._of_requests = timedelta(hours=outcome_hours)
        self._of_experiments = timedelta(days=outcome_days)
        self._periodic = Periodic("retention", _EVERY_S, self.look)

    def start(self) -> None:
        self._periodic.start()

    def stop(self) -> None:
        self._periodic.stop()

    def look(self) -> bool:
        """Fold a batch of each experiment; returns whether there may be more, which is then looked for soon."""
        at = now()
        with self._database.reading() as session:
            unfinished = experiments.unfinished(session)
            left_over = retention.left_over(session, at - _GRACE)
        more = False
        for experiment in unfinished:
            more |= self._fold_requests(experiment.id, at - self._of_requests)
            if experiment.ended_at is not None and experiment.ended_at < at - self._of_experiments:
                self._close(experiment.id)
        for experiment_id in left_over:
            # What was still on its way when it was closed has a later time than that.
            more |= self._fold_requests(experiment_id, at)
            more |= self._fold(experiment_id, _fold_units) == _UNITS_BATCH
        if more:
            time.sleep(_PAUSE_S)
            self._periodic.wake()
        return more

    def _fold_requests(self, experiment_id: str, before: datetime) -> bool:
        def fold(session: Session, experiment: Experiment, sums: Counts) -> int:
            exposures, outcomes = retention.take_exposures(session, experiment.id, before, _BATCH)
            for each in outcomes:
                sums.reported(each.variant, each.metric, each.bucket, each.value, 1, (each.value, each.value))
            answers, labels = retention.take_paired_answers(session, experiment.id, before, _BATCH)
            add_labels(labels, sums)
            return max(exposures, answers)

        return self._fold(experiment_id, fold) >= _BATCH or self._remove_strays(experiment_id, before)

    def _remove_strays(self, experiment_id: str, before: datetime) -> bool:
        # Looked for without holding up writers: there may be many to pass over.
        with self._database.reading() as session:
            strays = retention.strays(session, experiment_id, before, _BATCH)
        if strays:
            with self._database.writing(changes=NOTHING) as session:
                retention.remove_outcomes(session, experiment_id, strays)
        return len(strays) == _BATCH

    def _fold(self, experiment_id: str, fold: Fold) -> int:
        with self._database.writing(changes=NOTHING) as session:
            experiment = retention.claim(session, experiment_id)
            if experiment is None:
                return 0
            kept = retention.sums_of(session, experiment_id)
            sums = Counts.from_json(kept) if kept is not None else Counts(_arms(experiment))
            taken = fold(session, experiment, sums)
            if taken:
                retention.keep_sums(session, experiment_id, sums.to_json())
            return taken

    def _close(self, experiment_id: str) -> None:
        with self._database.writing(changes=NOTHING) as session:
            experiment = retention.claim(session, experiment_id)
            if experiment is None or experiment.closed_at is not None:
                return
            sums = Counts(_arms(experiment))
            for each in records.counts_of(session, experiment_id):
                sums.merge(Counts.from_json(each))
            retention.close(session, experiment, sums.to_json())
        _log.info("experiment '%s' takes no outcomes any more; what was reported is kept as sums", experiment.name)


def _fold_units(session: Session, experiment: Experiment, sums: Counts) -> int:
    # Of a closed experiment, the sums hold the units of all processes.
    arms = ArmsOfUnits(experiment, sums)
    taken = retention.take_unit_outcomes(session, experiment.id, _UNITS_BATCH)
    for each in taken:
        arms.add(each.unit, each.metric, each.value, sums)
    return len(taken)


def _arms(experiment: Experiment) -> list[str]:
    return [each["variant"] for each in experiment.arms]
