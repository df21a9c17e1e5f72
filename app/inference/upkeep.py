"""Keeps what is in memory in step with the registry.

A variant that was unloaded or deleted, through whichever process, leaves this one; those that are pinned, or that a
running experiment asks, are loaded.
"""

from collections.abc import Sequence
from contextlib import suppress

from app.errors import OctetError
from app.inference.naming import one_meant
from app.periodic import Periodic
from app.registry import Database, Session, experiments, variants
from app.serving.pool import Artifact, Pool

_EVERY_S = 0.5


class Upkeep:
    """A thread that looks twice a second. `pinned`: names of models, whose defaults are meant, or `model@variant`."""

    def __init__(self, database: Database, pool: Pool, pinned: Sequence[str] = ()) -> None:
        self._database = database
        self._pool = pool
        self._pinned = pinned
        # Asked for once each: what cannot be loaded would else be tried for ever.
        self._asked: set[Artifact] = set()
        self._periodic = Periodic("upkeep", _EVERY_S, self.look)

    def start(self) -> None:
        self._periodic.start()

    def stop(self) -> None:
        self._periodic.stop()

    def look(self) -> None:
        """Forget what no variant asks for any more, once what runs on it has ended; ask for what is pinned.

        While the registry does not answer, this raises, and what is loaded stays loaded, and serves.
        """
        loaded = {artifact.digest for artifact in self._pool.loaded_bytes()}
        with self._database.reading() as session:
            wanted = variants.wanted_digests(session, loaded)
            pinned = {artifact for name in self._pinned if (artifact := _artifact(session, name)) is not None}
            pinned |= set(map(Artifact.of, experiments.asked_variants(session)))
        self._pool.drop(loaded - wanted)
        self._pool.pin(pinned)
        for artifact in pinned - self._asked:
            self._pool.preload(artifact)
        self._asked = pinned


def _artifact(session: Session, name: str) -> Artifact | None:
    """What `name` means now; None where that does not exist yet, or is not to be in memory."""
    with suppress(OctetError):
        model, variant = one_meant(session, name)
        variants.check_serves(model, variant)
        return None if variant.unloaded_at is not None else Artifact.of(variant)
    return None
