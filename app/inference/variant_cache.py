"""Which variant a name means, remembered for a moment: inference asks far more often than the answer changes."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from app.errors import OctetError
from app.inference.dataplane import Served
from app.registry import Database, OperationalError

#: A change that another process makes is seen after so long at the latest; one of this process at once.
SECONDS = 0.5
_MOST = 1000

_Name = tuple[str, str | None]


class Recent:
    """What `resolve` said, whoever asked: for those who were let in for that model already. May be called from many
    threads at once.

    While the registry does not answer, what it said last holds on, unless this process has changed something since.
    """

    def __init__(
        self,
        resolve: Callable[[str, str | None], Served],
        database: Database,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resolve = resolve
        self._database = database
        self._clock = clock
        self._known: dict[_Name, _Known] = {}
        self._keeping = threading.Lock()

    def remembered(self, name: str, version: str | None) -> Served | None:
        """The variant, where that is known without asking the registry; never blocks."""
        known = self._known.get((name, version))
        if known is None or known.failures != self._database.failures or self._is_changed(known):
            return None
        return known.served if self._clock() < known.until else None

    def _is_changed(self, known: "_Known") -> bool:
        return self._database.changed_since(known.commits, known.served.model)

    @property
    def knows_any(self) -> bool:
        """Whether anything can be answered without the registry."""
        return any(not self._is_changed(known) for known in list(self._known.values()))

    def resolve(self, name: str, version: str | None) -> Served:
        """The variant. Raises what `resolve` raises: that something does not exist is not remembered."""
        served = self.remembered(name, version)
        if served is None:
            # All are read before the registry is: what changes meanwhile makes the answer old from the start.
            commits, failures, until = self._database.commits, self._database.failures, self._clock() + SECONDS
            served, commits = self._asked(name, version, commits)
            self._keep((name, version), _Known(served, commits, failures, until))
        return served

    def _keep(self, name: "_Name", known: "_Known") -> None:
        with self._keeping:
            # Those asked for longest ago are first, and go first.
            self._known.pop(name, None)
            self._known[name] = known
            if len(self._known) > _MOST:
                del self._known[next(iter(self._known))]

    def _asked(self, name: str, version: str | None, commits: int) -> tuple[Served, int]:
        """With the number of commits at which it was so."""
        try:
            return self._resolve(name, version), commits
        except OperationalError:
            with self._keeping:
                last = self._known.get((name, version))
            if last is None or self._is_changed(last):
                raise
            return last.served, last.commits
        except OctetError:
            # It is deleted, say: not even without the registry does it hold any more.
            with self._keeping:
                self._known.pop((name, version), None)
            raise


@dataclass(frozen=True)
class _Known:
    served: Served
    commits: int
    failures: int
    until: float
