"""The audit log: who changed what, and when; written in the transaction that makes the change.

Names alone: neither what a request carried nor a secret is in it.
"""

from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.caller import CALLER, Caller
from app.logs import REQUEST_ID
from app.masking import masked
from app.registry.tables import AuditEntry, now

DONE, REFUSED = "done", "refused"


def record(
    session: Session,
    verb: str,
    noun: str,
    name: str,
    *,
    by: str | None = None,
    caller: Caller | None = None,
    outcome: str = DONE,
) -> None:
    """Note that `by`, or the caller, did something: `verb` in the past tense. It stays if the transaction does."""
    caller = caller or CALLER.get()
    session.add(
        AuditEntry(
            by=by or caller.name,
            key_id=None if by else caller.key,
            verb=verb,
            noun=noun,
            name=_plain(name)[:255],
            request_id=_plain(REQUEST_ID.get())[:128] or None,
            outcome=outcome,
        )
    )


def _plain(text: str) -> str:
    """As every database takes it, and every terminal shows it."""
    shown = masked(text)
    return shown if shown.isprintable() and shown.isascii() else ascii(shown)[1:-1]


def listed(
    session: Session,
    *,
    by: str | None = None,
    noun: str | None = None,
    name: str | None = None,
    since: datetime | None = None,
    before_id: int | None = None,
    limit: int = 100,
) -> list[AuditEntry]:
    """The newest first, at most `limit`. `by`: a name or a key's id. `name`: what the name begins with.

    `before_id`: only older ones than that entry, to go on where the last answer ended.
    """
    query = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(limit)
    if by is not None:
        query = query.where((AuditEntry.by == by) | (AuditEntry.key_id == by))
    if noun is not None:
        query = query.where(AuditEntry.noun == noun)
    if name is not None:
        query = query.where(AuditEntry.name.startswith(name, autoescape=True))
    if since is not None:
        query = query.where(AuditEntry.at >= since)
    if before_id is not None:
        query = query.where(AuditEntry.id < before_id)
    return list(session.scalars(query))


def forget(session: Session, *, older_than_days: int) -> None:
    session.execute(delete(AuditEntry).where(AuditEntry.at < now() - timedelta(days=older_than_days)))
