"""A variant as the registry describes it to clients of the protocol."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from app.engines import TensorSpec
from app.errors import Unloaded
from app.experiments.live import Live
from app.inference.naming import find_variant
from app.registry import Database, Session, experiments, variants
from app.registry.tables import Experiment, Model, Variant
from app.serving.batch_queue import Target
from app.serving.batches import may_be_joined
from app.serving.padding import Padding
from app.serving.pool import Artifact
from app.serving.steady import is_steady


@dataclass(frozen=True)
class ServedVariant:
    """What serving needs to know of one variant.

    Attributes:
        versions: All integer versions of the model.
        batchable: Requests of several clients may be answered in one batch, with `padding` also those of different
            length.
        steady: As in `app.serving.steady`.
        experiment: The id of the experiment that is running on the model.
        trial: That experiment, where it decides which variant answers, since the request names none.
    """

    model: str
    label: str
    version: int
    versions: tuple[int, ...]
    artifact: Artifact
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    class_names: tuple[str, ...] | None
    batchable: bool
    padding: Padding | None = None
    steady: bool = False
    unloaded: bool = False
    experiment: str | None = None
    trial: "RunningExperiment | None" = None

    def __hash__(self) -> int:
        # Caches look for this very object: one that the registry described anew may answer differently.
        return id(self)

    @cached_property
    def target(self) -> Target:
        """The batch queue of its requests."""
        joins = self.batchable and may_be_joined(self.inputs, self.outputs)
        return Target(self.model, self.version, self.artifact, joins, self.padding, self.steady)

    def check_loaded(self) -> None:
        """Raises `Unloaded`."""
        if self.unloaded:
            raise Unloaded(self.model, self.label)


@dataclass(frozen=True)
class RunningExperiment:
    """A running experiment, and its arms and shadows by their labels."""

    live: Live
    variants: Mapping[str, ServedVariant]


def resolve(database: Database, name: str, version: str | None = None) -> ServedVariant:
    """The variant that `name`, which may be `model@variant`, and `version`, an integer or a label, stand for.

    With neither a variant nor a version, the model's default. Blocks while the registry is asked.

    Raises:
        UnknownModel: There is no such model.
        UnknownVariant: The model has no such variant.
        Rejected: The variant may not serve.
        Invalid: Both name a variant.
    """
    with database.reading() as session:
        model, variant = find_variant(session, name, version)
        variants.check_serves(model, variant)
        served = _described(session, model, variant)
        experiment = experiments.running_of(session, model)
        if experiment is None:
            return served
        is_named = version is not None or "@" in name
        trial = None if is_named else _running(session, model, experiment)
        return replace(served, experiment=experiment.id, trial=trial)


def _described(session: Session, model: Model, variant: Variant) -> ServedVariant:
    revision = variant.revision
    return ServedVariant(
        model=model.name,
        label=variant.label,
        version=variant.version,
        versions=tuple(row.version for row in variants.listed(session, model)),
        artifact=Artifact.of(variant),
        inputs=tuple(TensorSpec.from_json(spec) for spec in revision.inputs),
        outputs=tuple(TensorSpec.from_json(spec) for spec in revision.outputs),
        class_names=tuple(revision.class_names) if revision.class_names else None,
        batchable=variants.may_share_batches(variant),
        padding=Padding.from_json(variant.padding) if variant.padding and variants.may_be_padded(variant) else None,
        steady=is_steady(revision.operators),
        unloaded=variant.unloaded_at is not None,
    )


def _running(session: Session, model: Model, experiment: Experiment) -> RunningExperiment:
    live = Live.of(experiment)
    known = {row.label: row for row in variants.listed(session, model) if row.revision_id == experiment.revision_id}
    named = {arm.variant for arm in live.split.arms} | {sample.variant for sample in live.samples}
    able = {label: known[label] for label in named & known.keys() if variants.may_serve(known[label])}
    return RunningExperiment(live, {label: _described(session, model, row) for label, row in able.items()})
