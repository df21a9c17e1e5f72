"""How clients name variants: a model, `model@variant`, or a model and a version, which may be a variant's label."""

from app.errors import Invalid
from app.registry import Session, models, variants
from app.registry.tables import Model, Variant


def parse_reference(name: str, version: str | None) -> tuple[str, str | None]:
    """The model's name, and what says which variant of it; None where nothing does. Raises `Invalid` for both ways."""
    model_name, at, label = name.partition("@")
    if at and version is not None:
        raise Invalid(f"'{name[:80]}' names a variant already; leave out the version")
    return model_name, label if at else version


def find_variant(session: Session, name: str, version: str | None = None) -> tuple[Model, Variant]:
    """The model, and the variant that is named, or its default where none is. Raises as `find_variants`."""
    model_name, reference = parse_reference(name, version)
    model = models.find(session, model_name)
    if reference is None:
        return model, variants.default_of(session, model)
    return model, variants.find(session, model, reference)


def find_variants(session: Session, name: str, version: str | None = None) -> tuple[Model, list[Variant]]:
    """The model, and the one variant that is named, or all of its variants where none is.

    Raises `UnknownModel`, `UnknownVariant` or `Invalid`. Rejected variants are among them.
    """
    model_name, reference = parse_reference(name, version)
    model = models.find(session, model_name)
    if reference is None:
        return model, variants.listed(session, model)
    return model, [variants.find(session, model, reference)]
