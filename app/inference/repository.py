"""The model repository extension: what there is, and what is in memory.

`load` brings a variant into memory now instead of at its first request; `unload` frees it once its running requests
have ended. An unloaded variant is not ready, and says so, until it is loaded again: by `load`, or by the next
inference request that wants it. Which ones are unloaded is known to the process alone, as is what it has in memory.
"""

import threading

from app.errors import NotFound, Unavailable
from app.inference.dataplane import Served
from app.inference.naming import meant
from app.registry import Database, models, variants
from app.registry.tables import Model, Variant
from app.serving.pool import Artifact, Pool

_UNLOADED = "unloaded"


class Repository:
    """Its methods block and belong into threads."""

    def __init__(self, database: Database, pool: Pool) -> None:
        self._database = database
        self._pool = pool
        self._lock = threading.Lock()
        self._unloaded: set[tuple[str, int]] = set()

    def index(self) -> list[dict[str, str]]:
        """All variants of all models."""
        with self._database.reading() as session:
            return [
                {"name": model.name, "version": str(variant.version), **self._state(model, variant)}
                for model in models.listed(session)
                for variant in variants.listed(session, model)
            ]

    def load(self, name: str) -> None:
        """Have `model@variant`, or the default of `model`, in memory when this returns.

        Raises `NotFound`, `Rejected` for a variant that may not serve, `InvalidModel` for one that cannot be loaded.
        """
        try:
            with self._database.reading() as session:
                model, named = meant(session, name)
                variant = named[0] if "@" in name else variants.default_of(session, model)
                variants.check_serves(model, variant)
                artifact = Artifact.of(variant)
        except NotFound as error:
            raise NotFound(f"failed to load '{name[:80]}': {error.detail}") from error
        self._pool.load(artifact)
        with self._lock:
            self._unloaded -= {(model.name, each.version) for each in named}

    def unload(self, name: str) -> None:
        """Have `model@variant`, or all variants of `model`, out of memory once their running requests have ended.

        Waits for that, though not for ever: what runs longer ends without being waited for. Raises `NotFound`.
        """
        try:
            with self._database.reading() as session:
                model, named = meant(session, name)
                artifacts = [Artifact.of(variant) for variant in named]
        except NotFound as error:
            raise NotFound(f"failed to unload '{name[:80]}': {error.detail}") from error
        for artifact in artifacts:
            self._pool.unload(artifact)
        with self._lock:
            self._unloaded |= {(model.name, variant.version) for variant in named}

    def check_ready(self, served: Served) -> None:
        """Raises `Unavailable` for a variant that was unloaded and has not been loaded since."""
        if self._is_unloaded(served.model, served.version, served.artifact):
            raise Unavailable(
                f"version {served.version} of '{served.model}' was unloaded; POST"
                f" /v2/repository/models/{served.model}/load, or the next inference request, loads it"
            )

    def _state(self, model: Model, variant: Variant) -> dict[str, str]:
        if not variants.may_serve(variant):
            return {"state": "UNAVAILABLE", "reason": f"rejected: {'; '.join(variant.reasons)}"}
        if self._is_unloaded(model.name, variant.version, Artifact.of(variant)):
            return {"state": "UNAVAILABLE", "reason": _UNLOADED}
        return {"state": "READY", "reason": ""}

    def _is_unloaded(self, model: str, version: int, artifact: Artifact) -> bool:
        key = (model, version)
        with self._lock:
            if key in self._unloaded and self._pool.is_loaded(artifact):
                # A request has loaded it since. Should it be evicted later, it is as ready as any other.
                self._unloaded.discard(key)
            return key in self._unloaded
