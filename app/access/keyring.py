"""The keys that there are, in memory: a request never waits for the registry to be let in.

Twice a second it is looked whether keys were made or revoked. While the registry does not answer, the keys that were
known let in: serving goes on.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from app.access.bucket import Bucket
from app.caller import Caller, Scope
from app.periodic import Periodic
from app.registry import Database, audit, keys
from app.registry.database import NOTHING
from app.registry.tables import ApiKey

_EVERY_S = 0.5
_USED_EVERY_S = 30.0
_AUDIT_EVERY_S = 3600.0
#: A key that is not known may have been made a moment ago; so often at most the registry is asked.
_LOOKS_APART_S = 0.1


@dataclass(frozen=True, slots=True)
class Known:
    """A key. `until`: seconds of Unix time; 0 for a revoked one."""

    caller: Caller
    salt: bytes
    digest: bytes
    until: float
    has_quota: bool
    bucket: Bucket | None


#: Compared with where there is no such key, so that the answer takes as long.
_NOBODY = Known(Caller("nobody", Scope.infer), b"-" * 16, bytes(32), 0.0, False, None)


class Keyring:
    """`configured`: a key was made, ever, so that requests need one."""

    def __init__(self, database: Database, *, audit_days: int = 0, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._audit_days = audit_days
        self._clock = clock
        self._known: dict[str, Known] = {}
        self._state: tuple[int, int] | None = None
        # The registry's at the last look: while it stays the same, so do the keys.
        self._marker: str | None = None
        self._looked_at = -_LOOKS_APART_S
        self._used: dict[str, float] = {}
        self._looking = threading.Lock()
        self._looks = Periodic("looking at keys", _EVERY_S, self.look)
        self._notes = Periodic("noting the use of keys", _USED_EVERY_S, self.note_used)
        self._forgets = Periodic("forgetting old changes", _AUDIT_EVERY_S, self._forget_audit)
        self.configured = False

    def start(self) -> None:
        """Raises what the registry raises: nobody is let in before it is known who may come in."""
        self.look()
        for periodic in (self._looks, self._notes, self._forgets):
            periodic.start()

    def stop(self) -> None:
        for periodic in (self._looks, self._notes, self._forgets):
            periodic.stop()
        self._notes.once()

    def shown(self, key: str) -> Known | None:
        """The key, where it is right, and neither revoked nor expired. Never blocks."""
        parts = keys.parts_of(key)
        if parts is None:
            return None
        known = self._known.get(parts[0], _NOBODY)
        if not keys.is_of(parts[1], known.salt, known.digest):
            return None
        return self._in_force(parts[0], known)

    def of(self, key_id: str) -> Known | None:
        """The key of that id, where it is in force."""
        return self._in_force(key_id, self._known.get(key_id, _NOBODY))

    def _in_force(self, key_id: str, known: Known) -> Known | None:
        at = self._clock()
        if at >= known.until:
            return None
        self._used[key_id] = at
        return known

    def may_be_new(self, key: str) -> bool:
        """Whether to `look` before the key is refused: it has the form of one, and is not known yet."""
        parts = keys.parts_of(key)
        return (
            parts is not None and parts[0] not in self._known and time.monotonic() - self._looked_at >= _LOOKS_APART_S
        )

    def look(self) -> None:
        """Ask the registry which keys there are; blocks."""
        with self._looking:
            self._looked_at = time.monotonic()
            marker = self._database.change_marker()
            if marker is not None and marker == self._marker:
                return
            with self._database.reading() as session:
                state = keys.state_of_all(session)
                if state == self._state:
                    self._marker = marker
                    return
                listed = keys.listed(session)
            # In this order: as soon as a key is demanded, it is known.
            self._known = {key.id: self._as_known(key) for key in listed}
            self.configured = bool(listed)
            self._state, self._marker = state, marker

    def _as_known(self, key: ApiKey) -> Known:
        former = self._known.get(key.id)
        bucket = former.bucket if former is not None else None
        if bucket is None and key.rate is not None:
            bucket = Bucket(key.rate, key.burst or 1)
        until = key.expires_at.timestamp() if key.expires_at is not None else float("inf")
        return Known(
            Caller(key.name, Scope(key.scope), key.id, key.models),
            key.salt,
            key.digest,
            0.0 if key.revoked_at is not None else until,
            key.upload_quota_bytes is not None,
            bucket,
        )

    def note_used(self) -> None:
        """Write when keys were used last."""
        used, self._used = self._used, {}
        if used:
            with self._database.writing(changes=NOTHING) as session:
                keys.note_used(session, {key: datetime.fromtimestamp(at, UTC) for key, at in used.items()})

    def _forget_audit(self) -> None:
        if self._audit_days:
            with self._database.writing(changes=NOTHING) as session:
                audit.forget(session, older_than_days=self._audit_days)
