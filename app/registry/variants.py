"""Variants: what can be served, and the comparison between them."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload, object_session

from app.contracts.operators import quantized_operators
from app.contracts.outcome import REJECTED
from app.errors import Conflict, Rejected, UnknownVariant
from app.registry import audit, live
from app.registry.models import ORIGINAL
from app.registry.names import is_valid
from app.registry.tables import Evaluation, Model, Revision, Variant, now


def find(session: Session, model: Model, reference: str) -> Variant:
    """The variant that `reference` names: a label, of the newest revision that has it, or an integer version.

    Raises `UnknownVariant`.
    """
    query = (
        select(Variant)
        .join(Revision)
        .where(Variant.model_id == model.id)
        .options(joinedload(Variant.revision), joinedload(Variant.evaluation))
        .order_by(Revision.number.desc())
        .limit(1)
    )
    wanted = Variant.version == int(reference) if is_version(reference) else Variant.label == reference
    variant = session.scalar(query.where(wanted)) if is_valid(reference) else None
    if variant is None:
        raise UnknownVariant(model.name, reference[:80], [row.label for row in listed(session, model)])
    return variant


def is_version(reference: str) -> bool:
    """Whether a reference is an integer version rather than a label."""
    return reference.isascii() and reference.isdigit() and len(reference) < 10


def default_of(session: Session, model: Model) -> Variant:
    """The variant that answers when a client names none."""
    variant = session.get(
        Variant,
        model.default_variant_id,
        options=[joinedload(Variant.revision), joinedload(Variant.evaluation)],
    )
    if variant is None:
        raise UnknownVariant(model.name, "default", [])
    return variant


def listed(session: Session, model: Model) -> list[Variant]:
    """All variants of `model` by version, their evaluations loaded but for the reports, which are long."""
    query = (
        select(Variant)
        .where(Variant.model_id == model.id)
        .options(joinedload(Variant.revision), joinedload(Variant.evaluation).defer(Evaluation.report))
        .order_by(Variant.version)
    )
    return list(session.scalars(query))


def original_of(session: Session, revision: Revision) -> Variant:
    """The upload of `revision`."""
    return session.scalars(select(Variant).where(Variant.revision_id == revision.id, Variant.label == ORIGINAL)).one()


def may_serve(variant: Variant) -> bool:
    """Whether it kept to its budget, or someone decided that it serves all the same."""
    return variant.verdict != REJECTED or variant.overridden_at is not None


def may_share_batches(variant: Variant) -> bool:
    """Whether requests of several clients may be answered in one batch: their answers do not depend on it.

    Where that was not tested, an FP32 original may: it is what answers are compared with, in whatever batch.
    """
    if variant.batchable is not None:
        return variant.batchable
    return variant.label == ORIGINAL and not quantized_operators(variant.revision.operators)


def may_be_padded(variant: Variant) -> bool:
    """Whether sequences of different length may share a batch. That is never taken on trust."""
    return variant.padding is not None and may_share_batches(variant)


def check_serves(model: Model, variant: Variant) -> None:
    """Raises `Rejected` for a variant that may not serve."""
    if not may_serve(variant):
        raise Rejected(model.name, variant.label, variant.reasons)


def override(variant: Variant) -> None:
    """Let a rejected variant serve. Doing it twice is the same; one that may serve anyway stays as it is."""
    if not may_serve(variant):
        variant.overridden_at = now()
        _audit("overrode", variant)


def take_back_override(session: Session, model: Model, variant: Variant) -> None:
    """The verdict holds again. Raises `Conflict` for the default, which must be able to answer, and for one in an
    experiment that runs or is paused.
    """
    if variant.overridden_at is not None and variant.id == model.default_variant_id:
        raise Conflict(
            f"'{variant.label}' is the default of '{model.name}': set another with"
            f" PUT /api/v1/models/{model.name}/default first"
        )
    if variant.overridden_at is not None:
        live.check_not_used(session, model, variant, to="take the override back")
    if variant.overridden_at is not None:
        variant.overridden_at = None
        _audit("took override back", variant)


def unload(variant: Variant) -> None:
    """From the commit on it answers nothing; processes that have it in memory let it go within a second."""
    if variant.unloaded_at is None:
        variant.unloaded_at = now()
        _audit("unloaded", variant)


def load(variant: Variant) -> None:
    """From the commit on it answers again, each process loading it when first asked."""
    if variant.unloaded_at is not None:
        variant.unloaded_at = None
        _audit("loaded", variant)


def wanted_digests(session: Session, digests: Collection[str]) -> set[str]:
    """Those of `digests` that are the artifact of a variant that is not unloaded."""
    query = select(Variant.digest).where(Variant.digest.in_(digests), Variant.unloaded_at.is_(None))
    return set(session.scalars(query))


def versions_of(session: Session, names: Collection[str]) -> set[tuple[str, int]]:
    """Of the models called so, those that there are, each version with its model's name."""
    query = select(Model.name, Variant.version).join(Model, Variant.model_id == Model.id).where(Model.name.in_(names))
    return {(name, version) for name, version in session.execute(query)}


def delete(session: Session, model: Model, variant: Variant) -> list[str]:
    """Remove one variant; returns the digests of blobs it named.

    Raises `Conflict` for the original, on which jobs and comparisons rest, for the default, and for one in an
    experiment that runs or is paused.
    """
    if variant.id == model.default_variant_id:
        raise Conflict(
            f"'{variant.label}' is the default of '{model.name}': set another with"
            f" PUT /api/v1/models/{model.name}/default first"
        )
    if variant.label == ORIGINAL:
        raise Conflict(f"the original of a revision stays as long as its model: delete model '{model.name}'")
    live.check_not_used(session, model, variant, to="delete the variant")
    audit.record(session, "deleted", "variant", f"{model.name}@{variant.label}")
    session.delete(variant)
    return [digest for digest in (variant.digest, variant.data_digest) if digest]


def _audit(verb: str, variant: Variant) -> None:
    session = object_session(variant)
    if session is not None:
        audit.record(session, verb, "variant", f"{variant.revision.model.name}@{variant.label}")
