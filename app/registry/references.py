"""Which blobs the registry still names."""

from sqlalchemy import exists, or_, select
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
