"""Rows of experiments that are taken out of the registry, once what they say is to be kept as sums.

Whatever is taken is deleted in the same transaction, and told to one caller: so it is added up once. Callers `claim`
the experiment first.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, and_, delete, exists, func, or_, select, tuple_
from sqlalchemy.orm import Session

from app.registry.records import LABEL, OF_REQUEST, OF_UNIT, LabelSum, kept_counts, put_counts
from app.registry.tables import Experiment, ExperimentCounts, Exposure, Json, Outcome, PairedAnswer, now

#: The process under whose name sums of what was taken are kept: no real one is called so.
SUMS = "sums"

#: These rows were never loaded as objects: there is nothing to keep in step.
_QUIETLY = {"synchronize_session": False}


@dataclass(frozen=True)
class TakenOutcome:
    """What was reported of a request that this arm answered."""

    variant: str
    bucket: int
    metric: str
    value: float


@dataclass(frozen=True)
class UnitOutcome:
    """What was reported of a unit."""

    unit: str
    metric: str
    value: float


def claim(session: Session, experiment_id: str) -> Experiment | None:
    """The experiment, whose rows nobody else takes until this transaction ends; None where somebody does now.

    Requests are recorded meanwhile.
    """
    query = select(Experiment).where(Experiment.id == experiment_id)
    return session.scalar(query.with_for_update(key_share=True, skip_locked=True))


def sums_of(session: Session, experiment_id: str) -> Json | None:
    """What `keep_sums` has kept."""
    return kept_counts(session, experiment_id, SUMS)


def keep_sums(session: Session, experiment_id: str, sums: Json) -> None:
    put_counts(session, experiment_id, SUMS, sums)


def close(session: Session, experiment: Experiment, sums: Json) -> None:
    """From the commit on it takes no counts and no outcomes; `sums` stand for what all processes have counted."""
    experiment.closed_at = now()
    session.execute(
        delete(ExperimentCounts).where(ExperimentCounts.experiment_id == experiment.id), execution_options=_QUIETLY
    )
    keep_sums(session, experiment.id, sums)


def left_over(session: Session, closed_before: datetime) -> list[str]:
    """Those closed before then that still have rows."""
    has_rows = [exists().where(table.experiment_id == Experiment.id) for table in (Exposure, PairedAnswer, Outcome)]
    query = select(Experiment.id).where(Experiment.closed_at < closed_before, or_(*has_rows))
    return list(session.scalars(query.order_by(Experiment.id)))


def take_exposures(
    session: Session, experiment_id: str, before: datetime, limit: int
) -> tuple[int, list[TakenOutcome]]:
    """Of requests of that time, `limit` at most: how many there were, and what was reported of them."""
    oldest = _oldest(Exposure, experiment_id, before, limit)
    rows = session.execute(
        delete(Exposure)
        .where(Exposure.experiment_id == experiment_id, Exposure.request_id.in_(oldest))
        .returning(Exposure.request_id, Exposure.variant, Exposure.bucket),
        execution_options=_QUIETLY,
    ).all()
    arms = {OF_REQUEST + request_id: (variant, bucket) for request_id, variant, bucket in rows}
    outcomes = session.execute(
        delete(Outcome)
        .where(Outcome.experiment_id == experiment_id, Outcome.reference.in_(arms), Outcome.metric != LABEL)
        .returning(Outcome.reference, Outcome.metric, Outcome.value),
        execution_options=_QUIETLY,
    ).all()
    return len(rows), [TakenOutcome(*arms[reference], metric, value) for reference, metric, value in outcomes]


def take_paired_answers(
    session: Session, experiment_id: str, before: datetime, limit: int
) -> tuple[int, list[LabelSum]]:
    """Of requests of that time, `limit` at most: how many there were, and what the label of each says, one by one."""
    oldest = _oldest(PairedAnswer, experiment_id, before, limit)
    rows = session.execute(
        delete(PairedAnswer)
        # All shadows of a request at once: they share its label.
        .where(PairedAnswer.experiment_id == experiment_id, PairedAnswer.request_id.in_(oldest))
        .returning(
            PairedAnswer.request_id,
            PairedAnswer.variant,
            PairedAnswer.control_class,
            PairedAnswer.variant_class,
        ),
        execution_options=_QUIETLY,
    ).all()
    references = {OF_REQUEST + row.request_id for row in rows}
    found = session.execute(
        delete(Outcome)
        .where(Outcome.experiment_id == experiment_id, Outcome.reference.in_(references), Outcome.metric == LABEL)
        .returning(Outcome.reference, Outcome.value),
        execution_options=_QUIETLY,
    )
    labels = {row.reference: row.value for row in found}
    told = []
    for request_id, variant, control_class, variant_class in rows:
        label = labels.get(OF_REQUEST + request_id)
        if label is not None:
            control_right, variant_right = label == control_class, label == variant_class
            told.append(
                LabelSum(variant, 1, int(control_right and not variant_right), int(variant_right and not control_right))
            )
    return len(rows), told


def strays(session: Session, experiment_id: str, before: datetime, limit: int) -> list[tuple[str, str]]:
    """What was reported by then of requests that the experiment did not answer, or knows no more: reference, metric."""
    request_id = func.substr(Outcome.reference, len(OF_REQUEST) + 1)
    answered = [
        exists().where(table.experiment_id == experiment_id, table.request_id == request_id)
        for table in (Exposure, PairedAnswer)
    ]
    query = (
        select(Outcome.reference, Outcome.metric)
        .where(Outcome.experiment_id == experiment_id, Outcome.reference.startswith(OF_REQUEST), Outcome.at < before)
        .where(and_(*(~each for each in answered)))
        .limit(limit)
    )
    return [(reference, metric) for reference, metric in session.execute(query)]


def remove_outcomes(session: Session, experiment_id: str, named: Iterable[tuple[str, str]]) -> None:
    """By reference and metric."""
    by_name = tuple_(Outcome.reference, Outcome.metric).in_(list(named))
    session.execute(delete(Outcome).where(Outcome.experiment_id == experiment_id, by_name), execution_options=_QUIETLY)


def take_unit_outcomes(session: Session, experiment_id: str, limit: int) -> list[UnitOutcome]:
    """What was reported of units, `limit` at most. Of an experiment that is closed: else it could be reported anew."""
    some = (
        select(Outcome.reference, Outcome.metric)
        .where(Outcome.experiment_id == experiment_id, Outcome.reference.startswith(OF_UNIT))
        .limit(limit)
    )
    rows = session.execute(
        delete(Outcome)
        .where(Outcome.experiment_id == experiment_id, tuple_(Outcome.reference, Outcome.metric).in_(some))
        .returning(Outcome.reference, Outcome.metric, Outcome.value),
        execution_options=_QUIETLY,
    ).all()
    return [UnitOutcome(reference.removeprefix(OF_UNIT), metric, value) for reference, metric, value in rows]


def _oldest(
    table: type[Exposure] | type[PairedAnswer], experiment_id: str, before: datetime, limit: int
) -> Select[str]:
    query = select(table.request_id).where(table.experiment_id == experiment_id, table.at < before)
    return query.order_by(table.at).limit(limit)
