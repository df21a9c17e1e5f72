"""Models and their revisions."""

from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, defer, joinedload, selectinload

from app.caller import CALLER
from app.errors import Conflict, Invalid, UnknownModel, UnknownRevision
from app.registry import audit, calibrations, live
from app.registry.names import checked, is_valid
from app.registry.tables import Job, Json, Model, Revision, Variant

#: Words that are routes of the inference protocol, and so cannot be models.
RESERVED = {"stats"}
ORIGINAL = "original"


@dataclass(frozen=True)
class NewRevision:
    """What intake found out about an uploaded model; `digest` identifies the upload, the others its files.
    `data_name` is what the model calls its external data."""

    digest: str
    file_digest: str
    data_digest: str | None
    data_name: str | None
    size_bytes: int
    opset: int
    inputs: list[Json]
    outputs: list[Json]
    operators: dict[str, int]
    operator_nodes: dict[str, str]
    float_bytes: int
    class_names: list[str] | None
    engine: str


def checked_name(name: str) -> str:
    """`name` itself; raises `InvalidName` or, for a word with another meaning, `Invalid`."""
    if checked("name", name) in RESERVED:
        raise Invalid(f"'{name}' is a word of the inference protocol; choose another name", field="name")
    return name


def find(session: Session, name: str, *, for_update: bool = False) -> Model:
    """The model called `name`; raises `UnknownModel`. With `for_update`, other writers of it wait.

    Raises `ModelForbidden` where the caller's key is for other models.
    """
    if is_valid(name):
        CALLER.get().check_may_use(name)
    query = select(Model).where(Model.name == name)
    model = session.scalar(query.with_for_update() if for_update else query) if is_valid(name) else None
    if model is None:
        raise UnknownModel(name[:80])
    return model


def listed(session: Session) -> list[Model]:
    """All models that the caller's key is for, by name, their revisions and defaults loaded."""
    query = (
        select(Model).options(selectinload(Model.revisions), selectinload(Model.default_variant)).order_by(Model.name)
    )
    caller = CALLER.get()
    return [model for model in session.scalars(query) if caller.may_use(model.name)]


_LAST = select(func.max(Revision.number)).where(Revision.model_id == Model.id).correlate(Model).scalar_subquery()
# Made once: to put a statement together takes as long as to run it.
_NEWEST = (
    select(Model, Revision)
    .join(Revision, (Revision.model_id == Model.id) & (Revision.number == _LAST))
    .options(
        joinedload(Model.default_variant).load_only(Variant.label, Variant.version),
        defer(Revision.operator_nodes),
    )
    .order_by(Model.name)
)


def newest(session: Session) -> list[tuple[Model, Revision]]:
    """All models that the caller's key is for, by name, each with its newest revision and default; one query."""
    caller = CALLER.get()
    return [(model, revision) for model, revision in session.execute(_NEWEST) if caller.may_use(model.name)]


def find_revision(session: Session, model: Model, number: int | None = None) -> Revision:
    """Revision `number` of `model`, the newest when None; raises `UnknownRevision`."""
    query = select(Revision).where(Revision.model_id == model.id).order_by(Revision.number.desc()).limit(1)
    revision = session.scalar(query if number is None else query.where(Revision.number == number))
    if revision is None:
        raise UnknownRevision(model.name, number or 1)
    return revision


def register(session: Session, name: str, new: NewRevision) -> tuple[Revision, bool]:
    """Add a revision with its `original` variant, and the model when it is its first.

    Returns the revision, and whether it is new: bytes that the model already has give the revision they made.
    The first revision's original becomes the default; a later upload changes nothing that is being served.
    To be called under `database.lock_blobs`, which also keeps two uploads of one name apart. Raises `ModelForbidden`
    where the caller's key is for other models.
    """
    CALLER.get().check_may_use(checked_name(name))
    model = session.scalar(select(Model).where(Model.name == name))
    if model is None:
        model = Model(name=name)
        session.add(model)
        session.flush()
    known = session.scalar(select(Revision).where(Revision.model_id == model.id, Revision.digest == new.digest))
    if known is not None:
        return known, False
    last = session.scalar(
        select(Revision.number).where(Revision.model_id == model.id).order_by(Revision.number.desc()).limit(1)
    )
    revision = Revision(
        model=model,
        number=(last or 0) + 1,
        digest=new.digest,
        size_bytes=new.size_bytes,
        opset=new.opset,
        inputs=new.inputs,
        outputs=new.outputs,
        operators=new.operators,
        operator_nodes=new.operator_nodes,
        float_bytes=new.float_bytes,
        class_names=new.class_names,
    )
    session.add(revision)
    session.flush()
    original = Variant(
        model_id=model.id,
        revision=revision,
        label=ORIGINAL,
        version=take_version(session, model),
        method=ORIGINAL,
        options={},
        state="ready",
        verdict=None,
        engine=new.engine,
        digest=new.file_digest,
        data_digest=new.data_digest,
        data_name=new.data_name,
        size_bytes=new.size_bytes,
    )
    session.add(original)
    session.flush()
    if last is None:
        model.default_variant_id = original.id
    audit.record(session, "uploaded", "model", f"{name} revision {revision.number}")
    return revision, True


def take_version(session: Session, model: Model) -> int:
    """The next integer version of `model`; concurrent callers get different ones, and none comes twice."""
    taken = session.scalar(
        update(Model)
        .where(Model.id == model.id)
        .values(next_version=Model.next_version + 1)
        .returning(Model.next_version)
        .execution_options(synchronize_session=False)
    )
    assert taken is not None
    return taken - 1


def delete(session: Session, name: str) -> list[str]:
    """Remove the model and all that hangs on it; returns the digests of blobs it named.

    Raises `Conflict` while a job of it is queued or running, or an experiment runs or is paused.
    """
    model = find(session, name, for_update=True)
    live.check_none(session, model, to="delete the model")
    query = select(Job.id).where(Job.model_id == model.id, Job.state.in_(("queued", "running"))).limit(1)
    job = session.scalar(query)
    if job is not None:
        raise Conflict(f"model '{name}' has a job that has not ended: cancel job {job} or wait for it")
    digests = session.execute(select(Variant.digest, Variant.data_digest).where(Variant.model_id == model.id)).all()
    checkpoints = session.scalars(select(Job.checkpoint_digest).where(Job.model_id == model.id)).all()
    revisions = session.scalars(select(Revision.digest).where(Revision.model_id == model.id)).all()
    model.default_variant_id = None
    session.flush()
    session.delete(model)
    session.flush()
    calibrations.forget_models(session, revisions)
    audit.record(session, "deleted", "model", name)
    return sorted({digest for row in (*digests, checkpoints) for digest in row if digest})


def set_default(session: Session, model: Model, variant: Variant) -> None:
    """From the commit on, `variant` answers when a client names none, though it was unloaded before."""
    model.default_variant_id = variant.id
    variant.unloaded_at = None
    audit.record(session, "made default", "variant", f"{model.name}@{variant.label}")
