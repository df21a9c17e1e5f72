"""API keys: made, checked, revoked; what they have uploaded today; and the browsers that showed one."""

import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b, sha256
from typing import Literal

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from app.caller import Scope
from app.errors import Invalid, QuotaExceeded, UnknownKey
from app.registry import audit
from app.registry.tables import ApiKey, BrowserSession, now

_ID = re.compile(r"[a-z0-9]{12}\Z")
_ID_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_SECRET_BYTES = 24
_SESSION = timedelta(hours=12)


@dataclass(frozen=True)
class NewKey:
    """What a key is to be. `models`: a pattern as of a shell, such as `resnet*`; None for all.

    `rate`: requests a second, and `burst` at once; None for as many as come. `upload_quota_bytes`: a day, in UTC.
    """

    name: str
    scope: Scope
    models: str | None = None
    expires_at: datetime | None = None
    rate: float | None = None
    burst: int | None = None
    upload_quota_bytes: int | None = None


def create(session: Session, new: NewKey) -> tuple[ApiKey, str]:
    """The key as it is kept, and as its owner shows it: `octet_<id>_<secret>`, which nothing can tell again.

    Raises `Invalid` for what makes no sense together.
    """
    _check(new)
    key_id = "".join(secrets.choice(_ID_LETTERS) for _ in range(12))
    secret = secrets.token_hex(_SECRET_BYTES)
    salt = secrets.token_bytes(16)
    key = ApiKey(
        id=key_id,
        salt=salt,
        digest=digest_of(secret, salt),
        created_at=now(),
        uploaded_bytes=0,
        burst=None if new.rate is None else new.burst or max(1, round(new.rate)),
        **{name: value for name, value in vars(new).items() if name != "burst"},
    )
    session.add(key)
    audit.record(session, "created", "key", f"{key_id} {new.name}")
    session.flush()
    return key, f"octet_{key_id}_{secret}"


def _check(new: NewKey) -> None:
    if not (0 < len(new.name) <= 63 and new.name.isprintable()):
        raise Invalid("the name of a key has 1 to 63 printable characters", field="name")
    if new.scope is Scope.admin and new.models is not None:
        # It could make itself a key for all models.
        raise Invalid("a key of scope 'admin' is for all models: leave out the pattern", field="models")
    if new.models is not None and not (0 < len(new.models) <= 255 and new.models.isprintable()):
        raise Invalid("the pattern of models has 1 to 255 printable characters", field="models")
    if new.expires_at is not None and new.expires_at <= now():
        raise Invalid(f"the key would have expired at {new.expires_at:%Y-%m-%d %H:%M} UTC", field="expires_at")
    if new.burst is not None and new.rate is None:
        raise Invalid("`burst` is of a rate: give `rate` too", field="burst")


def digest_of(secret: str, salt: bytes) -> bytes:
    """What is kept of a secret.

    One fast hash: a secret of 192 random bits cannot be guessed, however fast guesses are tried. Slow hashes are for
    what people make up, and would cost each request milliseconds.
    """
    return blake2b(secret.encode("utf-8", "surrogatepass"), salt=salt, digest_size=32).digest()


def is_of(secret: str, salt: bytes, digest: bytes) -> bool:
    """Whether `digest` is that of `secret`; takes as long whether it is or not."""
    return hmac.compare_digest(digest_of(secret, salt), digest)


def parts_of(shown: str) -> tuple[str, str] | None:
    """Id and secret of a key as it is shown; None for what has not the form of one."""
    prefix, _, rest = shown.partition("_")
    key_id, _, secret = rest.partition("_")
    return (key_id, secret) if prefix == "octet" and secret and len(secret) <= 128 and _ID.match(key_id) else None


def find(session: Session, key_id: str) -> ApiKey:
    """Raises `UnknownKey`."""
    key = session.get(ApiKey, key_id) if _ID.match(key_id) else None
    if key is None:
        raise UnknownKey(key_id[:12])
    return key


def listed(session: Session) -> list[ApiKey]:
    """All that were ever made, in order."""
    return list(session.scalars(select(ApiKey).order_by(ApiKey.created_at, ApiKey.id)))


def revoke(session: Session, key_id: str) -> ApiKey:
    """From the commit on it lets nobody in; gateways see that within a second. Doing it twice is the same."""
    key = find(session, key_id)
    if key.revoked_at is None:
        key.revoked_at = now()
        session.execute(delete(BrowserSession).where(BrowserSession.key_id == key_id))
        audit.record(session, "revoked", "key", f"{key_id} {key.name}")
    return key


def state_of(key: ApiKey) -> Literal["active", "expired", "revoked"]:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= now() else "active"


def were_made(session: Session) -> bool:
    """Whether there is a key, or was: a service that had keys does not open when the last of them has ended."""
    return session.scalar(select(ApiKey.id).limit(1)) is not None


def state_of_all(session: Session) -> tuple[int, int]:
    """Another one after each key that is made or revoked."""
    made, revoked = session.execute(select(func.count(), func.count(ApiKey.revoked_at)).select_from(ApiKey)).one()
    return made, revoked


def note_used(session: Session, used: Mapping[str, datetime]) -> None:
    for key_id, at in used.items():
        later = (ApiKey.last_used_at.is_(None)) | (ApiKey.last_used_at < at)
        session.execute(update(ApiKey).where(ApiKey.id == key_id, later).values(last_used_at=at))


# Uploads


def take_upload(session: Session, key_id: str, size_bytes: int) -> str:
    """Count an upload before it comes; returns the day, in UTC, that it counts for. Raises `QuotaExceeded`.

    One guarded UPDATE: of uploads at the same time, no more pass than the quota has room for.
    """
    key, at = find(session, key_id), now()
    today = at.date().isoformat()
    session.execute(
        update(ApiKey)
        .where(ApiKey.id == key_id, func.coalesce(ApiKey.upload_day, "") != today)
        .values(upload_day=today, uploaded_bytes=0)
        .execution_options(synchronize_session=False)
    )
    fits = ApiKey.uploaded_bytes + size_bytes <= func.coalesce(ApiKey.upload_quota_bytes, ApiKey.uploaded_bytes)
    taken = session.scalar(
        update(ApiKey)
        .where(ApiKey.id == key_id, ApiKey.upload_quota_bytes.is_(None) | fits)
        .values(uploaded_bytes=ApiKey.uploaded_bytes + size_bytes)
        .returning(ApiKey.id)
        .execution_options(synchronize_session=False)
    )
    if taken is None:
        session.refresh(key)
        midnight = datetime.combine(at.date() + timedelta(days=1), datetime.min.time(), UTC)
        quota = key.upload_quota_bytes or 0
        raise QuotaExceeded(quota, max(0, quota - key.uploaded_bytes), (midnight - at).total_seconds())
    return today


def give_upload_back(session: Session, key_id: str, day: str, size_bytes: int) -> None:
    """Nothing was kept of an upload that was counted."""
    counted = (ApiKey.id == key_id) & (ApiKey.upload_day == day) & (ApiKey.uploaded_bytes >= size_bytes)
    less = ApiKey.uploaded_bytes - size_bytes
    session.execute(
        update(ApiKey).where(counted).values(uploaded_bytes=less).execution_options(synchronize_session=False)
    )


# Browsers


def sign_in(session: Session, key_id: str) -> tuple[str, datetime]:
    """A cookie that stands for the key, and when it ends; those that have ended are forgotten."""
    session.execute(delete(BrowserSession).where(BrowserSession.expires_at < now()))
    token, expires_at = secrets.token_urlsafe(32), now() + _SESSION
    session.add(BrowserSession(digest=_cookie_digest(token), key_id=key_id, expires_at=expires_at))
    return token, expires_at


def signed_in(session: Session, token: str) -> str | None:
    """The id of the key that the cookie stands for; None for one that has ended or never was.

    Found by its hash: neither does the registry know cookies, nor does its index tell how much of one is right.
    """
    query = select(BrowserSession.key_id).where(
        BrowserSession.digest == _cookie_digest(token), BrowserSession.expires_at > now()
    )
    return session.scalar(query)


def sign_out(session: Session, token: str) -> None:
    session.execute(delete(BrowserSession).where(BrowserSession.digest == _cookie_digest(token)))


def _cookie_digest(token: str) -> str:
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
