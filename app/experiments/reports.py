"""What clients reported, added to what was counted."""

from collections.abc import Iterable
from dataclasses import replace

from app.experiments.assignment import Place, Split
from app.experiments.counts import Counts
from app.experiments.definition import split_of
from app.registry import Session, records
from app.registry.records import LabelSum
from app.registry.tables import Experiment


def add_reports(session: Session, experiment: Experiment, counts: Counts) -> None:
    """Adds what is kept in single rows, to `counts` of all processes together.

    Outcomes of requests belong to the arm that answered. Those of units, to the arm that the split has them in,
    provided that they were counted there.
    """
    for row in records.outcome_sums(session, experiment.id):
        counts.reported(row.variant, row.metric, row.bucket, row.total, row.count, (row.least, row.most))
    arms = ArmsOfUnits(experiment, counts)
    for unit, metric, value in records.unit_outcomes(session, experiment.id):
        arms.add(unit, metric, value, counts)
    add_labels(records.label_sums(session, experiment.id), counts)


def add_labels(labels: Iterable[LabelSum], counts: Counts) -> None:
    for row in labels:
        counts.labelled(row.variant, row.labelled, row.control_only, row.variant_only)


class ArmsOfUnits:
    """In which arm a unit was counted, which may have been before the arm was stopped or the coverage reduced.

    Of units that are too many to be remembered, the present coverage decides.
    """

    def __init__(self, experiment: Experiment, counted: Counts) -> None:
        self._counted = counted
        self._covering = _unstopped(split_of(experiment))
        self._everybody = replace(self._covering, coverage=1.0)

    def add(self, unit: str, metric: str, value: float, counts: Counts) -> None:
        """Adds to `counts` what was reported of a unit, where that was seen."""
        place = self._everybody.place(unit)
        if self._was_in(unit, place):
            assert place.variant is not None
            counts.reported(place.variant, metric, place.bucket, value, 1, (value, value))

    def _was_in(self, unit: str, place: Place) -> bool:
        assert place.variant is not None
        known = self._counted.units.was_in(place.key, self._counted.arms.index(place.variant))
        return known if known is not None else self._covering.arm(unit) is not None


def _unstopped(split: Split) -> Split:
    return replace(split, arms=tuple(replace(arm, stopped=False) for arm in split.arms))
