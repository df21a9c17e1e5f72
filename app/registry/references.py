"""Which blobs the registry still names."""

from sqlalchemy import CompoundSelect, exists, or_, select, union
from sqlalchemy.orm import Session

from app.registry.jobs import LIVE
from app.registry.tables import Dataset, Job, Variant


def is_referenced(session: Session, digest: str) -> bool:
    """Whether any row names the blob `digest`; meaningful under `database.lock_blobs` only.

    The checkpoint of a job that has ended does not count: no attempt will ask for it.
    """
    named = select(
        or_(
            exists().where(Dataset.digest == digest),
            exists().where(or_(Variant.digest == digest, Variant.data_digest == digest)),
            exists().where(Job.checkpoint_digest == digest, Job.state.in_(LIVE)),
        )
    )
    return bool(session.scalar(named))


def referenced(session: Session) -> set[str]:
    """The blobs that `is_referenced` is true of."""
    named: CompoundSelect[tuple[str]] = union(
        select(Dataset.digest),
        select(Variant.digest),
        select(Variant.data_digest).where(Variant.data_digest.is_not(None)),
        select(Job.checkpoint_digest).where(Job.checkpoint_digest.is_not(None), Job.state.in_(LIVE)),
    )
    return set(session.scalars(named))
