"""The model repository extension: what there is, and what may be in memory.

`load` brings a variant into memory now instead of at its first request. `unload` frees it once its running requests
have ended; from then on it answers nothing, in any process, until it is loaded again or becomes the default. That is
kept in the registry. What else is in memory at a time is for the pool of each process to decide.
"""

from app.errors import NotFound
from app.inference.naming import find_variant, find_variants
from app.registry import Database, models, variants
from app.registry.tables import Variant
from app.serving.pool import Artifact, Pool


class Repository:
    """Its methods block and belong into threads."""

    def __init__(self, database: Database, pool: Pool) -> None:
        self._database = database
        self._pool = pool

    def index(self) -> list[dict[str, str]]:
        """All variants of all models."""
        with self._database.reading() as session:
            return [
                {"name": model.name, "version": str(variant.version), **self._state(variant)}
                for model in models.listed(session)
                for variant in variants.listed(session, model)
            ]

    def _state(self, variant: Variant) -> dict[str, str]:
        if not variants.may_serve(variant):
            return {"state": "UNAVAILABLE", "reason": f"rejected: {'; '.join(variant.reasons)}"}
        if variant.unloaded_at is not None:
            return {"state": "UNAVAILABLE", "reason": "unloaded"}
        quarantined = self._pool.quarantined(Artifact.of(variant))
        if quarantined is not None:
            return {"state": "UNAVAILABLE", "reason": quarantined}
        return {"state": "READY", "reason": ""}

    def load(self, name: str) -> None:
        """Have `model@variant`, or the default of `model`, in memory when this returns.

        Of a model, all variants may answer again. Raises `NotFound`, `Rejected` for a variant that may not serve,
        `InvalidModel` for one that cannot be loaded.
        """
        try:
            with self._database.writing(changes=name.partition("@")[0]) as session:
                model, variant = find_variant(session, name)
                variants.check_serves(model, variant)
                for each in find_variants(session, name)[1]:
                    variants.load(each)
                artifact = Artifact.of(variant)
        except NotFound as error:
            raise NotFound(f"failed to load '{name[:80]}': {error.detail}") from error
        self._pool.load(artifact)

    def unload(self, name: str) -> None:
        """Have `model@variant`, or all variants of `model`, out of memory once their running requests have ended.

        Waits for that in this process, though not for ever: what runs longer ends without being waited for. Raises
        `NotFound`.
        """
        try:
            with self._database.writing(changes=name.partition("@")[0]) as session:
                named = find_variants(session, name)[1]
                for each in named:
                    variants.unload(each)
                artifacts = [Artifact.of(variant) for variant in named]
        except NotFound as error:
            raise NotFound(f"failed to unload '{name[:80]}': {error.detail}") from error
        for artifact in artifacts:
            self._pool.unload(artifact)
