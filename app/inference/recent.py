"""Which variant a name means, remembered for a moment: inference asks far more often than the answer changes."""

import time
from collections.abc import Callable

from app.inference.dataplane import Served
from app.registry import Database

#: A change that another process makes is seen after so long at the latest; one of this process at once.
SECONDS = 0.5
_MOST = 10_000


class Recent:
    """What `resolve` said. May be called from many threads at once."""

    def __init__(
        self,
        resolve: Callable[[str, str | None], Served],
        database: Database,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resolve = resolve
        self._database = database
        self._clock = clock
        self._known: dict[tuple[str, str | None], tuple[Served, int, float]] = {}

    def remembered(self, name: str, version: str | None) -> Served | None:
        """The variant, where that is known without asking the registry; never blocks."""
        known = self._known.get((name, version))
        if known is None:
            return None
        served, commits, until = known
        return served if commits == self._database.commits and self._clock() < until else None

    def forget(self, model: str) -> None:
        """It changed, and no other model did."""
        for name, version in list(self._known):
            if name.partition("@")[0] == model:
                self._known.pop((name, version), None)

    def resolve(self, name: str, version: str | None) -> Served:
        """The variant. Raises what `resolve` raises: that something does not exist is not remembered."""
        served = self.remembered(name, version)
        if served is None:
            # Both are read before the registry is: what changes meanwhile makes the answer old from the start.
            commits, until = self._database.commits, self._clock() + SECONDS
            served = self._resolve(name, version)
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[name, version] = (served, commits, until)
        return served
