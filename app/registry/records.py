"""What is kept of the requests of experiments: counts of each process, who answered what, and what clients reported."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any

from sqlalchemy import case, exists, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.caller import CALLER
from app.registry import audit
from app.registry.tables import Experiment, ExperimentCounts, Exposure, Json, Model, Outcome, PairedAnswer, now

#: The metric of right answers: its values are numbers of classes, and no mean is taken of them.
LABEL = "label"

#: What an outcome may be called: a pattern of the whole name.
OUTCOME_NAME = r"[A-Za-z0-9][A-Za-z0-9._:-]{0,62}"

_LONGEST_REFERENCE = 200
OF_REQUEST, OF_UNIT = "request:", "unit:"


@dataclass(frozen=True)
class NewExposure:
    """A request that an arm answered, or failed to."""

    request_id: str
    variant: str
    bucket: int
    key: int
    at: datetime


@dataclass(frozen=True)
class NewPairedAnswer:
    """The top-1 of the control and of a shadow of it, `variant`, for one request of one row."""

    request_id: str
    variant: str
    control_class: int
    variant_class: int
    at: datetime


@dataclass(frozen=True)
class NewOutcome:
    """What a client reports of a request or of a unit: one of the two."""

    metric: str
    value: float
    request_id: str | None = None
    unit: str | None = None


@dataclass(frozen=True)
class OutcomeSum:
    """The outcomes of one metric that requests of one bucket in one arm had."""

    variant: str
    bucket: int
    metric: str
    count: int
    total: float
    least: float
    most: float


@dataclass(frozen=True)
class LabelSum:
    """Requests that a shadow answered too and whose right answer is known, and those where one of two alone gave it."""

    variant: str
    labelled: int
    control_only: int
    variant_only: int


def save_counts(session: Session, experiment_id: str, process: str, counts: Json) -> bool:
    """Keep what `process` has counted in all, in place of what it had; False where the experiment is gone, or closed.

    Processes do not wait for each other. Deleting the model in the same moment may raise `IntegrityError`.
    """
    if not _takes_more(session, experiment_id):
        return False
    put_counts(session, experiment_id, process, counts)
    return True


def put_counts(session: Session, experiment_id: str, process: str, counts: Json) -> None:
    """As `save_counts`, of an experiment that is known to be there."""
    row = {"experiment_id": experiment_id, "process": process, "counts": counts, "updated_at": now()}
    insert = _insert(session, ExperimentCounts).values(row)
    fresh = {"counts": insert.excluded.counts, "updated_at": insert.excluded.updated_at}
    session.execute(insert.on_conflict_do_update(index_elements=["experiment_id", "process"], set_=fresh))


def counts_of(session: Session, experiment_id: str) -> list[Json]:
    """What each process has counted."""
    query = select(ExperimentCounts.counts).where(ExperimentCounts.experiment_id == experiment_id)
    return list(session.scalars(query.order_by(ExperimentCounts.process)))


def kept_counts(session: Session, experiment_id: str, process: str) -> Json | None:
    """What `process` has counted; None where it has nothing."""
    kept = session.get(ExperimentCounts, (experiment_id, process), populate_existing=True)
    return kept.counts if kept is not None else None


def add_exposures(session: Session, experiment_id: str, exposures: Iterable[NewExposure]) -> None:
    """Keep which arm answered which request, in one statement; the first to tell of a request is right.

    Where the experiment is gone or closed, nothing is kept. Deleting the model in the same moment may raise
    `IntegrityError`.
    """
    _add_answers(session, experiment_id, Exposure, exposures)


def add_paired_answers(session: Session, experiment_id: str, answers: Iterable[NewPairedAnswer]) -> None:
    """Keep what a shadow and the control said to requests, as `add_exposures` does."""
    _add_answers(session, experiment_id, PairedAnswer, answers)


def _add_answers(
    session: Session,
    experiment_id: str,
    table: type[Exposure] | type[PairedAnswer],
    answers: Iterable[NewExposure | NewPairedAnswer],
) -> None:
    rows = [
        {**vars(each), "experiment_id": experiment_id, "request_id": kept_reference(each.request_id)}
        for each in answers
    ]
    if rows and _takes_more(session, experiment_id):
        _insert_new(session, table, rows)


def answered_in(session: Session, request_ids: Sequence[str]) -> dict[str, list[str]]:
    """The experiments, of models that the caller's key is for, in which each request was answered; without those of
    which none is known yet.
    """
    kept = {kept_reference(request_id): request_id for request_id in request_ids}
    by_arms = select(Exposure.request_id, Exposure.experiment_id).where(Exposure.request_id.in_(kept))
    by_shadows = select(PairedAnswer.request_id, PairedAnswer.experiment_id).where(PairedAnswer.request_id.in_(kept))
    answers = by_arms.union(by_shadows).subquery()
    query = (
        select(answers.c.request_id, answers.c.experiment_id, Model.name)
        .join(Experiment, Experiment.id == answers.c.experiment_id)
        .join(Model, Model.id == Experiment.model_id)
        .order_by(answers.c.request_id, answers.c.experiment_id)
    )
    caller = CALLER.get()
    found: dict[str, list[str]] = {}
    for request_id, experiment_id, model in session.execute(query):
        if caller.may_use(model):
            found.setdefault(kept[request_id], []).append(experiment_id)
    return found


def add_outcomes(session: Session, experiment_id: str, outcomes: Iterable[NewOutcome]) -> int:
    """Keep what clients report, in the order it came; returns how many were new.

    Of one request or unit there is one value of each metric, the first; reporting again changes nothing.
    """
    rows = [
        {
            "experiment_id": experiment_id,
            "reference": reference_of(each),
            "metric": each.metric,
            "value": each.value,
            "at": now(),
        }
        for each in outcomes
    ]
    new = _insert_new(session, Outcome, rows)
    if new:
        audit.record(session, "reported", "outcomes", experiment_id)
    return new


def outcome_sums(session: Session, experiment_id: str) -> list[OutcomeSum]:
    """What was reported of requests whose arm is known, by arm, bucket and metric; without labels."""
    query = (
        select(
            Exposure.variant,
            Exposure.bucket,
            Outcome.metric,
            func.count(),
            func.sum(Outcome.value),
            func.min(Outcome.value),
            func.max(Outcome.value),
        )
        .join(
            Outcome,
            # From outcomes to requests, by the index on these: most requests have no outcome.
            (Outcome.experiment_id == Exposure.experiment_id)
            & (func.substr(Outcome.reference, len(OF_REQUEST) + 1) == Exposure.request_id),
        )
        .where(
            Exposure.experiment_id == experiment_id,
            Outcome.reference.startswith(OF_REQUEST),
            Outcome.metric != LABEL,
        )
        .group_by(Exposure.variant, Exposure.bucket, Outcome.metric)
    )
    return [OutcomeSum(*row) for row in session.execute(query)]


def label_sums(session: Session, experiment_id: str) -> list[LabelSum]:
    """What the reported right answers say of each shadow, from the requests that it and the control answered."""
    control_right = Outcome.value == PairedAnswer.control_class
    variant_right = Outcome.value == PairedAnswer.variant_class
    query = (
        select(
            PairedAnswer.variant,
            func.count(),
            func.sum(case((control_right & ~variant_right, 1), else_=0)),
            func.sum(case((variant_right & ~control_right, 1), else_=0)),
        )
        .join(
            Outcome,
            (Outcome.experiment_id == PairedAnswer.experiment_id)
            & (func.substr(Outcome.reference, len(OF_REQUEST) + 1) == PairedAnswer.request_id),
        )
        .where(
            PairedAnswer.experiment_id == experiment_id,
            Outcome.reference.startswith(OF_REQUEST),
            Outcome.metric == LABEL,
        )
        .group_by(PairedAnswer.variant)
    )
    return [LabelSum(*row) for row in session.execute(query)]


def unit_outcomes(session: Session, experiment_id: str) -> Iterator[tuple[str, str, float]]:
    """What was reported of units: unit, metric and value."""
    query = select(Outcome.reference, Outcome.metric, Outcome.value).where(
        Outcome.experiment_id == experiment_id, Outcome.reference.startswith(OF_UNIT)
    )
    for reference, metric, value in session.execute(query):
        yield reference.removeprefix(OF_UNIT), metric, value


def kept_reference(name: str) -> str:
    """What a request or a unit is kept under: what clients call it, or a hash where no database would take that."""
    if len(name) <= _LONGEST_REFERENCE and name.isprintable():
        return name
    return "#" + blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def reference_of(outcome: NewOutcome) -> str:
    if outcome.request_id is not None:
        return OF_REQUEST + kept_reference(outcome.request_id)
    # As it is: which arm it is in depends on every character.
    return f"{OF_UNIT}{outcome.unit}"


def _takes_more(session: Session, experiment_id: str) -> bool:
    """Whether it is there, and not closed."""
    return bool(session.scalar(select(exists().where(Experiment.id == experiment_id, Experiment.closed_at.is_(None)))))


def _insert_new(session: Session, table: type[Any], rows: list[Json]) -> int:
    """Insert the rows that are not there yet; returns how many those are."""
    if not rows:
        return 0
    insert = _insert(session, table).on_conflict_do_nothing().returning(table.experiment_id)
    return len(session.connection().execute(insert, rows).all())


def _insert(session: Session, table: type[Any]) -> Any:
    """An INSERT that may say what to do about rows that are there: each database has its own."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    return dialect.insert(table)
