"""Keeps what is in memory in step with the registry.

A variant that was unloaded or deleted, through whichever process, leaves this one; those that are pinned, or that a
running experiment asks, are loaded.
"""

import logging
import threading
from collections.abc import Sequence
from contextlib import suppress

from app.errors import OctetError
from app.inference.naming import one_meant
from app.registry import Database, OperationalError, Session, experiments, variants
from app.serving.pool import Artifact, Pool

_log = logging.getLogger(__name__)

_EVERY_S = 0.5


class Upkeep:
    """A thread that looks twice a second. `pinned`: names of models, whose defaults are meant, or `model@variant`."""

    def __init__(self, database: Database, pool: Pool, pinned: Sequence[str] = ()) -> None:
        self._database = database
        self._pool = pool
        self._pinned = pinned
        # Asked for once each: what cannot be loaded would else be tried for ever.
        self._asked: set[Artifact] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="octet-upkeep", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=10)

    def look(self) -> None:
        """Forget what no variant asks for any more, once what runs on it has ended; ask for what is pinned."""
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

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except OperationalError as error:
                # Until the registry answers again, what is loaded stays loaded, and serves.
                _log.debug("the registry does not answer: %s", error)
            if self._stopping.wait(_EVERY_S):
                return


def _artifact(session: Session, name: str) -> Artifact | None:
    """What `name` means now; None where that does not exist yet, or is not to be in memory."""
    with suppress(OctetError):
        model, variant = one_meant(session, name)
        variants.check_serves(model, variant)
        return None if variant.unloaded_at is not None else Artifact.of(variant)
    return None
