"""Which blobs the registry still names."""

from sqlalchemy import exists, or_, select
from sqlalchemy.orm import Session

from app.registry.tables import Dataset, Variant


def is_referenced(session: Session, digest: str) -> bool:
    """Whether any row names the blob `digest`; meaningful under `database.lock_blobs` only."""
    named = select(
        or_(
            exists().where(Dataset.digest == digest),
            exists().where(or_(Variant.digest == digest, Variant.data_digest == digest)),
        )
    )
    return bool(session.scalar(named))
