"""The default variant of a model: what answers when a client names none."""

from app.registry import Database, models, variants
from app.registry.tables import Variant
from app.serving.pool import Artifact, Pool


def set_default(database: Database, pool: Pool, model: str, variant: str, *, override: bool) -> Variant:
    """Make `variant`, a label or a version, the default of `model`.

    The variant is loaded before it is switched to, so that no request waits or fails. With `override`, a variant that
    broke its budget may serve from now on.

    Raises:
        NotFound: There is no such model, or it has no such variant.
        Rejected: The variant broke its budget, and `override` is false.
        InvalidModel: The variant cannot be loaded.
    """
    with database.reading() as session:
        found = models.find(session, model)
        wanted = variants.find(session, found, variant)
        if not override:
            variants.check_serves(found, wanted)
    pool.load(Artifact.of(wanted))
    with database.writing(changes=model) as session:
        found = models.find(session, model, for_update=True)
        chosen = variants.find(session, found, str(wanted.version))
        if override:
            variants.override(chosen)
        variants.check_serves(found, chosen)
        models.set_default(session, found, chosen)
        return chosen
