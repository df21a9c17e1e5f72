"""Failed attempts at jobs, as an administrator needs them: where each failed, and the last lines of its log."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.caller import CALLER, Scope
from app.masking import masked
from app.registry.tables import JobFailure

#: Characters of a traceback, and of a log; the end is what is kept.
LONGEST_TEXT = 1 << 16


def record(
    session: Session, job_id: str, attempt: int, error: str, *, traceback: str | None = None, log: str = ""
) -> None:
    """Keep why an attempt failed, as long as the job is kept.

    Secrets are masked, and long texts lose their beginning.
    """
    session.add(
        JobFailure(
            job_id=job_id,
            attempt=attempt,
            error=storable(error),
            traceback=_end(traceback) if traceback is not None else None,
            log=_end(log),
        )
    )


def of_job(session: Session, job_id: str) -> list[JobFailure] | None:
    """Return the failed attempts at the job, the first one first; None for a caller who is no administrator."""
    if not CALLER.get().scope.covers(Scope.admin):
        return None
    query = select(JobFailure).where(JobFailure.job_id == job_id).order_by(JobFailure.attempt)
    return list(session.scalars(query))


def storable(text: str) -> str:
    """Return `text` without secrets, without NUL, which PostgreSQL does not store, and with surrogates as `\\udc80`."""
    return masked(text).replace("\0", "").encode(errors="backslashreplace").decode()


def _end(text: str) -> str:
    return storable(text)[-LONGEST_TEXT:]
