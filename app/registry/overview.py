"""All models at a glance, by a few queries however many there are."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.caller import CALLER
from app.registry.jobs import LIVE as LIVE_JOBS
from app.registry.live import LIVE as LIVE_EXPERIMENTS
from app.registry.models import ORIGINAL
from app.registry.tables import Evaluation, Experiment, Job, Model, Revision, Variant


@dataclass(frozen=True)
class Standing:
    """A variant as far as it takes to choose one: a part of its row of the comparison."""

    variant: str
    version: int
    verdict: str | None
    overridden: bool
    size_bytes: int
    size_ratio: float
    accuracy: float | None
    agreement: float | None
    cosine: float | None
    speedup: float | None
    speedup_low: float | None
    speedup_high: float | None
    samples: int | None


@dataclass(frozen=True)
class Overview:
    """A model; `standings` are the variants of its newest revision, by version, the original among them."""

    name: str
    revisions: int
    uploaded_at: datetime
    default: str
    default_version: int
    default_is_of_newest: bool
    standings: Sequence[Standing]
    live_jobs: int
    experiment: str | None


def overview(session: Session) -> list[Overview]:
    """All models that the caller's key is for, by name."""
    caller = CALLER.get()
    newest = _newest(session)
    standings = _standings(session, [revision_id for revision_id, *_ in newest.values()])
    jobs = _counted(session)
    live = select(Experiment.model_id, Experiment.name).where(Experiment.state.in_(LIVE_EXPERIMENTS))
    experiments = {row[0]: row[1] for row in session.execute(live)}
    query = (
        select(Model.id, Model.name, Variant.label, Variant.version, Variant.revision_id)
        .join(Variant, Variant.id == Model.default_variant_id)
        .order_by(Model.name)
    )
    return [
        Overview(
            name=name,
            revisions=newest[model_id][1],
            uploaded_at=newest[model_id][2],
            default=default,
            default_version=version,
            default_is_of_newest=revision_id == newest[model_id][0],
            standings=standings[newest[model_id][0]],
            live_jobs=jobs.get(model_id, 0),
            experiment=experiments.get(model_id),
        )
        for model_id, name, default, version, revision_id in session.execute(query)
        if caller.may_use(name)
    ]


def _newest(session: Session) -> dict[int, tuple[int, int, datetime]]:
    """Of each model, the id, number and time of its newest revision."""
    last = select(Revision.model_id, func.max(Revision.number).label("number")).group_by(Revision.model_id).subquery()
    query = select(Revision.model_id, Revision.id, Revision.number, Revision.created_at).join(
        last, (last.c.model_id == Revision.model_id) & (last.c.number == Revision.number)
    )
    return {model_id: (id_, number, at) for model_id, id_, number, at in session.execute(query)}


def _counted(session: Session) -> dict[int, int]:
    """Jobs of each model that have not ended."""
    query = select(Job.model_id, func.count()).where(Job.state.in_(LIVE_JOBS)).group_by(Job.model_id)
    return {row[0]: row[1] for row in session.execute(query)}


def _standings(session: Session, revision_ids: Sequence[int]) -> dict[int, list[Standing]]:
    """By revision. Columns and not objects: there may be ten thousand, and their reports are long."""
    wanted = set(revision_ids)
    query = (
        select(
            *(Variant.revision_id, Variant.label, Variant.version, Variant.verdict, Variant.overridden_at),
            *(Variant.size_bytes, Evaluation.accuracy, Evaluation.agreement, Evaluation.cosine, Evaluation.speedup),
            *(Evaluation.speedup_low, Evaluation.speedup_high, Evaluation.samples),
        )
        .outerjoin(Evaluation, Evaluation.variant_id == Variant.id)
        .order_by(Variant.revision_id, Variant.version)
    )
    rows = [row for row in session.execute(query) if row[0] in wanted]
    originals = {row[0]: row[5] for row in rows if row[1] == ORIGINAL}
    found: dict[int, list[Standing]] = defaultdict(list)
    for revision_id, label, version, verdict, overridden_at, size_bytes, *figures in rows:
        ratio = size_bytes / originals[revision_id]
        found[revision_id].append(
            Standing(label, version, verdict, overridden_at is not None, size_bytes, ratio, *figures)
        )
    return found
