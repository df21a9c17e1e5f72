"""Which variant a name stands for, kept for a moment: inference asks far more often than the answer changes."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from app.errors import OctetError
from app.inference.served_variant import ServedVariant
from app.periodic import Periodic
from app.registry import Database, OperationalError

#: A change that another process makes is seen after so long at the latest; one of this process at once.
SECONDS = 0.5
#: So often what was used is resolved again, before it is too old, so that no request waits for that.
_REFRESH_S = 0.2
_MOST = 1000

_Name = tuple[str, str | None]


class _Entry:
    """`commits`, `failures`: the database's when it was asked. `change_marker`: as `Database.change_marker` gave it."""

    __slots__ = ("change_marker", "commits", "failures", "is_used", "until", "variant")

    def __init__(
        self,
        variant: ServedVariant,
        commits: int,
        failures: int,
        until: float,
        change_marker: str | None,
        is_used: bool,
    ) -> None:
        self.variant = variant
        self.commits = commits
        self.failures = failures
        self.until = until
        self.change_marker = change_marker
        self.is_used = is_used


class VariantCache:
    """What `resolve` returned, whoever asked: for callers that were let in for that model. Thread-safe.

    While the registry does not answer, what it said last holds, unless this process has changed something since.
    """

    def __init__(
        self,
        resolve: Callable[[str, str | None], ServedVariant],
        database: Database,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resolve = resolve
        self._database = database
        self._clock = clock
        self._entries: dict[_Name, _Entry] = {}
        self._lock = threading.Lock()
        self._periodic = Periodic("variant-cache", _REFRESH_S, self.refresh)

    def start(self) -> None:
        """Refresh in a thread from now on."""
        self._periodic.start()

    def stop(self) -> None:
        self._periodic.stop()

    def get(self, name: str, version: str | None) -> ServedVariant | None:
        """The variant, where that is known without asking the registry; never blocks."""
        entry = self._entries.get((name, version))
        if entry is None or entry.failures != self._database.failures or self._is_changed(entry):
            return None
        if self._clock() >= entry.until:
            return None
        entry.is_used = True
        return entry.variant

    @property
    def has_any(self) -> bool:
        """Whether anything can be answered without the registry."""
        return any(not self._is_changed(entry) for entry in list(self._entries.values()))

    def resolve(self, name: str, version: str | None) -> ServedVariant:
        """The variant. Raises what `resolve` raises: that something does not exist is not kept."""
        return self.get(name, version) or self._ask((name, version), self._database.change_marker(), is_used=True)

    def refresh(self) -> None:
        """Have what was used since the last call hold for longer, asking the registry only where something changed."""
        used = [(name, entry) for name, entry in list(self._entries.items()) if entry.is_used]
        if not used:
            return
        until, marker = self._clock() + SECONDS, self._database.change_marker()
        for name, entry in used:
            entry.is_used = False
            is_current = entry.failures == self._database.failures and not self._is_changed(entry)
            if is_current and marker is not None and marker == entry.change_marker:
                entry.until = until
                continue
            # A request that needs what is gone, or a registry that is away, says so itself.
            with suppress(OctetError, OperationalError):
                self._ask(name, marker, is_used=False)

    def _is_changed(self, entry: _Entry) -> bool:
        commits = entry.commits
        return commits != self._database.commits and self._database.changed_since(commits, entry.variant.model)

    def _ask(self, name: _Name, marker: str | None, *, is_used: bool) -> ServedVariant:
        # All are read before the registry is: what changes meanwhile makes the answer old from the start.
        commits, failures, until = self._database.commits, self._database.failures, self._clock() + SECONDS
        try:
            variant = self._resolve(*name)
        except OperationalError:
            with self._lock:
                last = self._entries.get(name)
            if last is None or self._is_changed(last):
                raise
            variant, commits, marker = last.variant, last.commits, None
        except OctetError:
            # It is deleted, say: not even without the registry does it hold any more.
            with self._lock:
                self._entries.pop(name, None)
            raise
        return self._keep(name, _Entry(variant, commits, failures, until, marker, is_used))

    def _keep(self, name: _Name, entry: _Entry) -> ServedVariant:
        with self._lock:
            # Those asked for longest ago are first, and go first.
            last = self._entries.pop(name, None)
            if last is not None and last.variant == entry.variant:
                # What others keep of this very object stays of use.
                entry.variant = last.variant
            self._entries[name] = entry
            if len(self._entries) > _MOST:
                del self._entries[next(iter(self._entries))]
            return entry.variant
