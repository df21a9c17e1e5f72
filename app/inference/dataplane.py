"""The Open Inference Protocol V2 without its transport: which variant answers, and what it answers."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from app.engines import TensorSpec
from app.engines.engine import OIP_NAMES, Array
from app.errors import Invalid, Unloaded
from app.experiments.live import Live, Reason
from app.inference.naming import meant, one_meant
from app.inference.parameters import SequencePosition
from app.inference.tensors import classification
from app.registry import Database, OperationalError, Session, experiments, models, variants
from app.registry.tables import Experiment, Model, Variant
from app.serving.batch_queue import Answer, Target, Timing
from app.serving.batcher import Batcher
from app.serving.batches import Work, may_be_joined
from app.serving.figures import Figures
from app.serving.padding import Padding
from app.serving.pool import Artifact
from app.serving.statistics import Key, Tally
from app.serving.steady import is_steady

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """A variant as clients of the protocol see it. `versions` are all integer versions of its model.

    `batchable`: requests of several clients may be answered in one batch, and with `padding` those of different length.
    `steady`: as in `app.serving.steady`. `experiment`: the one that is running on its model; `trial`: where that is to
    decide who answers, since the request names no variant.
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
    trial: "Trial | None" = field(default=None, compare=False, repr=False)

    @cached_property
    def target(self) -> Target:
        """Whose lane its requests wait in."""
        joins = self.batchable and may_be_joined(self.inputs, self.outputs)
        return Target(self.model, self.version, self.artifact, joins, self.padding, self.steady)


@dataclass(frozen=True)
class Trial:
    """A running experiment, and the variants that it may ask: arms and shadows, by their labels."""

    live: Live
    variants: Mapping[str, Served]


@dataclass(frozen=True)
class InputTensor:
    """`datatype` as the client named it: BF16 comes as the FP32 that it abbreviates."""

    name: str
    datatype: str
    array: Array


@dataclass(frozen=True)
class RequestedOutput:
    """`classification`: so many top classes in place of the tensor; 0 for the tensor itself."""

    name: str
    binary: bool = False
    classification: int = 0


@dataclass(frozen=True)
class InferenceRequest:
    """`outputs` empty: all of them, binary or not by `binary_by_default`.

    `priority`: 1 is the most urgent; None or 0 leaves it to the server. `timeout_us`: how long the client wants to
    wait, in microseconds; None or 0 for as long as it takes. `parameters`: those that the protocol gives no meaning.
    """

    inputs: Sequence[InputTensor]
    outputs: Sequence[RequestedOutput] = ()
    binary_by_default: bool = False
    id: str | None = None
    priority: int | None = None
    timeout_us: int | None = None
    sequence: SequencePosition | None = None
    parameters: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class OutputTensor:
    name: str
    datatype: str
    array: Array
    binary: bool


@dataclass(frozen=True)
class InferenceResponse:
    served: Served
    outputs: Sequence[OutputTensor]
    id: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    timing: Timing | None = None
    experiment: str | None = None
    reason: Reason | None = None


@dataclass(frozen=True)
class Counted:
    """What a variant has answered so far. `loaded_bytes`: the memory that it takes, None where it is not loaded."""

    model: str
    version: int
    tally: Tally
    loaded_bytes: int | None


class DataPlane:
    """Every face of the protocol calls these. Those that ask the registry block, and belong into threads."""

    def __init__(self, database: Database, batcher: Batcher, figures: Callable[[], Figures]) -> None:
        """`figures`: of all processes that serve together."""
        self._database = database
        self._batcher = batcher
        self._figures = figures
        self._known: dict[Key, tuple[str, Artifact]] = {}

    def resolve(self, name: str, version: str | None = None) -> Served:
        """The variant meant by `name`, which may be `model@variant`, and `version`: an integer or a label.

        With neither, the model's default. Raises `UnknownModel`, `UnknownVariant`, `Rejected` for a variant that may
        not serve, or `Invalid` for both at once.
        """
        with self._database.reading() as session:
            model, variant = one_meant(session, name, version)
            variants.check_serves(model, variant)
            served = _served(session, model, variant)
            experiment = experiments.running_of(session, model)
            if experiment is None:
                return served
            is_named = version is not None or "@" in name
            trial = None if is_named else _trial(session, model, experiment)
            return replace(served, experiment=experiment.id, trial=trial)

    def statistics(self, name: str | None = None, version: str | None = None) -> list[Counted]:
        """What was answered by the variants named; by all, for no name.

        A model without a version means each of its variants. Raises `UnknownModel` or `UnknownVariant`.
        """
        with self._database.reading() as session:
            named = (
                [meant(session, name, version)]
                if name is not None
                else [(model, variants.listed(session, model)) for model in models.listed(session)]
            )
            rows = [(model.name, row.version, Artifact.of(row)) for model, listed in named for row in listed]
        figures = self._figures()
        return [
            Counted(
                model,
                number,
                figures.tallies.get((model, number), Tally()),
                figures.loaded_bytes.get(artifact),
            )
            for model, number, artifact in rows
        ]

    def everything_counted(self) -> tuple[Figures, dict[Key, tuple[str, Artifact]]]:
        """The figures, and of each variant that there is, or was when the registry answered last, its label and
        artifact.
        """
        try:
            with self._database.reading() as session:
                self._known = {
                    (model.name, row.version): (row.label, Artifact.of(row))
                    for model in models.listed(session)
                    for row in variants.listed(session, model)
                }
        except OperationalError as error:
            _log.warning("the registry does not answer: %s", error)
        return self._figures(), self._known

    def infer_at_once(self, asked: "Asked") -> InferenceResponse | None:
        """As `infer`, where that takes so little time that no event loop minds; else None, and nothing is computed."""
        answer = self._batcher.run_inline(asked.served.target, asked.work)
        return None if answer is None else _response(asked, answer)

    async def infer(self, asked: "Asked") -> InferenceResponse:
        """Run the variant. Cancelled before its turn, nothing is computed.

        Raises `Invalid` where the model refuses the inputs, `InvalidModel` where it cannot be loaded, `QueueFull`, and
        `DeadlineUnmet` before anything is computed.
        """
        return _response(asked, await asyncio.wrap_future(self._batcher.submit(asked.served.target, asked.work)))


def _served(session: Session, model: Model, variant: Variant) -> Served:
    revision = variant.revision
    return Served(
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


def _trial(session: Session, model: Model, experiment: Experiment) -> Trial:
    live = Live.of(experiment)
    known = {row.label: row for row in variants.listed(session, model) if row.revision_id == experiment.revision_id}
    asked = {arm.variant for arm in live.split.arms} | {sample.variant for sample in live.samples}
    able = {label: known[label] for label in asked & known.keys() if variants.may_serve(known[label])}
    return Trial(live, {label: _served(session, model, row) for label, row in able.items()})


@dataclass(frozen=True)
class Asked:
    """A request that fits the variant that is to answer it."""

    served: Served
    request_id: str | None
    outputs: Sequence[RequestedOutput]
    work: Work


def check_loaded(served: Served) -> None:
    """Raises `Unloaded`."""
    if served.unloaded:
        raise Unloaded(served.model, served.label)


def checked(served: Served, request: InferenceRequest) -> Asked:
    """Raises `Invalid` for inputs or outputs that the variant does not have or take, and `Unloaded`."""
    check_loaded(served)
    feeds = _checked_feeds(served, request.inputs)
    outputs = _wanted_outputs(served, request)
    names = tuple(output.name for output in outputs)
    return Asked(served, request.id, outputs, Work(feeds, names, request.priority or 0, request.timeout_us or None))


def _response(asked: Asked, answer: Answer) -> InferenceResponse:
    served = asked.served
    outputs = [_as_output(output, array, served) for output, array in zip(asked.outputs, answer.arrays, strict=True)]
    return InferenceResponse(served, outputs, asked.request_id, {"variant": served.label}, answer.timing)


def _checked_feeds(served: Served, inputs: Sequence[InputTensor]) -> dict[str, Array]:
    specs = {spec.name: spec for spec in served.inputs}
    feeds: dict[str, Array] = {}
    for tensor in inputs:
        if tensor.name not in specs:
            raise Invalid(f"unexpected inference input '{tensor.name}' for model '{served.model}'; {_listed(specs)}")
        if tensor.name in feeds:
            raise Invalid(f"input '{tensor.name}' is given twice")
        _check_fits(tensor, specs[tensor.name])
        feeds[tensor.name] = tensor.array
    missing = [name for name in specs if name not in feeds]
    if missing:
        raise Invalid(f"expected {len(specs)} inputs for model '{served.model}': '{missing[0]}' is missing")
    return feeds


def _listed(specs: dict[str, TensorSpec]) -> str:
    return "its inputs are " + ", ".join(f"'{name}'" for name in specs)


def _check_fits(tensor: InputTensor, spec: TensorSpec) -> None:
    abbreviated = tensor.datatype == "BF16" and spec.datatype == "FP32"
    if tensor.datatype != spec.datatype and not abbreviated:
        raise Invalid(
            f"unexpected datatype {tensor.datatype} for inference input '{spec.name}', expecting {spec.datatype}"
        )
    shape = tensor.array.shape
    fits = len(shape) == len(spec.shape) and all(
        expected in (-1, got) for expected, got in zip(spec.shape, shape, strict=True)
    )
    if not fits:
        raise Invalid(
            f"unexpected shape {list(shape)} for inference input '{spec.name}', expecting {list(spec.shape)}"
            " (-1 is any length)"
        )


def _wanted_outputs(served: Served, request: InferenceRequest) -> list[RequestedOutput]:
    """What is asked for, found possible before anything is computed."""
    specs = {spec.name: spec for spec in served.outputs}
    wanted = request.outputs or [RequestedOutput(name, binary=request.binary_by_default) for name in specs]
    seen: set[str] = set()
    for output in wanted:
        if output.name not in specs:
            raise Invalid(
                f"unexpected inference output '{output.name}' for model '{served.model}'; its outputs are "
                + ", ".join(f"'{name}'" for name in specs)
            )
        if output.name in seen:
            raise Invalid(f"output '{output.name}' is asked for twice")
        seen.add(output.name)
        _check_has_form(output, specs[output.name].datatype)
    return list(wanted)


def _check_has_form(output: RequestedOutput, datatype: str) -> None:
    if output.classification:
        if datatype in {"BYTES", "BOOL"}:
            raise Invalid(f"output '{output.name}' is not numeric and cannot be classified")
    elif datatype == "FP16" and not output.binary:
        raise Invalid(f"output '{output.name}' is FP16, which has no JSON form; ask for it with binary_data: true")


def _as_output(output: RequestedOutput, array: Array, served: Served) -> OutputTensor:
    if output.classification:
        classes = classification(array, output.classification, served.class_names)
        return OutputTensor(output.name, "BYTES", classes, output.binary)
    return OutputTensor(output.name, OIP_NAMES[array.dtype], array, output.binary)
