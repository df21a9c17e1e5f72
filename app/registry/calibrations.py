"""What calibration found out, kept for the next job on the same model and samples. Losing any of it costs time only."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence

from sqlalchemy import delete, exists, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.registry.tables import Calibration, Dataset, Revision, now

#: Statistics of more bytes than this are not kept, and of the others so many.
LARGEST_BYTES = 32 * 2**20
KEPT = 200

_log = logging.getLogger(__name__)


def key(model_digest: str, dataset_digest: str, settings: Mapping[str, object]) -> str:
    """What statistics are found by: `settings`, which are JSON, is all else that they depend on."""
    named = json.dumps([model_digest, dataset_digest, dict(settings)], sort_keys=True)
    return hashlib.sha256(named.encode()).hexdigest()


def find(session: Session, key: str) -> bytes | None:
    """The statistics kept under `key`, if there are any."""
    return session.scalar(select(Calibration.statistics).where(Calibration.key == key))


def keep(session: Session, key: str, *, model_digest: str, dataset_digest: str, statistics: bytes) -> bool:
    """Keep `statistics` in place of what is under `key`; returns whether they are kept.

    They are not when they are too large or the database refuses them: the rest of the transaction goes on without.
    Of two that keep under one key at once, either's remain. The oldest make room for new ones.
    """
    if len(statistics) > LARGEST_BYTES:
        return False
    try:
        with session.begin_nested():
            session.merge(
                Calibration(
                    key=key,
                    model_digest=model_digest,
                    dataset_digest=dataset_digest,
                    statistics=statistics,
                    created_at=now(),
                )
            )
    except DBAPIError as error:
        _log.warning("statistics of calibration could not be kept: %s", error)
        return False
    oldest = select(Calibration.key).order_by(Calibration.created_at.desc(), Calibration.key).offset(KEPT)
    _delete(session, list(session.scalars(oldest)))
    return True


def forget_models(session: Session, digests: Sequence[str]) -> None:
    """Remove what was found with models of these digests, but for those that still have a revision."""
    gone = select(Calibration.key).where(
        Calibration.model_digest.in_(digests), ~exists().where(Revision.digest == Calibration.model_digest)
    )
    _delete(session, list(session.scalars(gone)))


def forget_dataset(session: Session, digest: str) -> None:
    """Remove what was found on the dataset of this digest, unless there still is one."""
    gone = select(Calibration.key).where(
        Calibration.dataset_digest == digest, ~exists().where(Dataset.digest == Calibration.dataset_digest)
    )
    _delete(session, list(session.scalars(gone)))


def _delete(session: Session, keys: list[str]) -> None:
    session.execute(delete(Calibration).where(Calibration.key.in_(keys)).execution_options(synchronize_session=False))
