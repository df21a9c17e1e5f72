"""Keeps what is in memory in step with the registry.

A variant that was unloaded or deleted, through whichever process, leaves this one, and so does what was counted of one
that was deleted; those that are pinned, or that a running experiment asks, are loaded.
"""

from collections.abc import Sequence
from contextlib import suppress

from app.errors import OctetError
from app.inference.naming import find_variant
from app.periodic import Periodic
from app.registry import Database, Session, experiments, variants
from app.serving.pool import Artifact, Pool
from app.serving.statistics import Statistics

_EVERY_S = 0.5
#: Since all variants that have answered are looked for.
_FORGET_EVERY_S = 10.0


class Reconciler:
    """A thread that looks twice a second. `pinned`: names of models, for their defaults, or `model@variant`."""

    def __init__(self, database: Database, pool: Pool, statistics: Statistics, pinned: Sequence[str] = ()) -> None:
        self._database = database
        self._pool = pool
        self._statistics = statistics
        self._pinned = pinned
        # Preloaded once each: what cannot be loaded would else be tried for ever.
        self._preloaded: set[Artifact] = set()
        # The registry and what was loaded, at the last look: while both stay as they are, there is nothing to do.
        self._state: tuple[str | None, set[str]] | None = None
        self._periodic = Periodic("reconciler", _EVERY_S, self.look)
        self._forgetting = Periodic("forgetting", _FORGET_EVERY_S, self.forget_counts)

    def start(self) -> None:
        self._periodic.start()
        self._forgetting.start()

    def stop(self) -> None:
        self._forgetting.stop()
        self._periodic.stop()

    def look(self) -> None:
        """Forget what no variant asks for any more, once what runs on it has ended; ask for what is pinned.

        While the registry does not answer, this raises, and what is loaded stays loaded, and serves.
        """
        loaded = {artifact.digest for artifact in self._pool.loaded_bytes()}
        state = (self._database.change_marker(), loaded)
        if state[0] is not None and state == self._state:
            return
        with self._database.reading() as session:
            wanted = variants.wanted_digests(session, loaded)
            pinned = {artifact for name in self._pinned if (artifact := _artifact(session, name)) is not None}
            pinned |= set(map(Artifact.of, experiments.asked_variants(session)))
        self._pool.drop(loaded - wanted)
        self._pool.pin(pinned)
        for artifact in pinned - self._preloaded:
            self._pool.preload(artifact)
        self._preloaded = pinned
        self._state = state

    def forget_counts(self) -> None:
        """Count nothing of variants that were deleted, so that others of their names and versions begin at 0."""
        counted = self._statistics.keys()
        if counted:
            with self._database.reading() as session:
                self._statistics.forget(counted - variants.versions_of(session, {name for name, _ in counted}))


def _artifact(session: Session, name: str) -> Artifact | None:
    """What `name` means now; None where that does not exist yet, or is not to be in memory."""
    with suppress(OctetError):
        model, variant = find_variant(session, name)
        variants.check_serves(model, variant)
        return None if variant.unloaded_at is not None else Artifact.of(variant)
    return None
