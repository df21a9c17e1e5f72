"""The Open Inference Protocol V2 without its transport: which variant answers, and what it answers."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.engines import TensorSpec
from app.engines.engine import OIP_NAMES, Array
from app.errors import Invalid
from app.inference import metrics
from app.inference.naming import meant, reference_in
from app.inference.parameters import SequencePosition
from app.inference.tensors import classification
from app.registry import Database, Session, models, variants
from app.registry.tables import Model, Variant
from app.serving.batcher import Batcher
from app.serving.batches import Work, may_be_joined
from app.serving.lane import Answer, Figures, Target
from app.serving.padding import Padding
from app.serving.pool import Artifact, Pool
from app.serving.statistics import Statistics


@dataclass(frozen=True)
class Served:
    """A variant as clients of the protocol see it. `versions` are all integer versions of its model.

    `batchable`: requests of several clients may be answered in one batch, and with `padding` those of different length.
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
    figures: Figures | None = None


class DataPlane:
    """Every face of the protocol calls these. They block and belong into threads, but for `infer_async`."""

    def __init__(self, database: Database, pool: Pool, statistics: Statistics, batcher: Batcher) -> None:
        self._database = database
        self._pool = pool
        self._statistics = statistics
        self._batcher = batcher

    def resolve(self, name: str, version: str | None = None) -> Served:
        """The variant meant by `name`, which may be `model@variant`, and `version`: an integer or a label.

        With neither, the model's default. Raises `UnknownModel`, `UnknownVariant`, `Rejected` for a variant that may
        not serve, or `Invalid` for both at once.
        """
        model_name, reference = reference_in(name, version)
        with self._database.reading() as session:
            model = models.find(session, model_name)
            if reference is None:
                variant = variants.default_of(session, model)
            else:
                variant = variants.find(session, model, reference)
            variants.check_serves(model, variant)
            return _served(session, model, variant)

    def statistics(self, name: str | None = None, version: str | None = None) -> list[dict[str, Any]]:
        """What was answered by the variants named, in the form of the statistics extension; by all, for no name.

        A model without a version means each of its variants. Raises `UnknownModel` or `UnknownVariant`.
        """
        with self._database.reading() as session:
            named = (
                [meant(session, name, version)]
                if name is not None
                else [(model, variants.listed(session, model)) for model in models.listed(session)]
            )
            rows = [(model.name, row.version, Artifact.of(row)) for model, listed in named for row in listed]
        loaded = self._pool.loaded_bytes()
        return [
            {
                "name": model,
                "version": str(number),
                **self._statistics.of(model, number),
                "memory_usage": [{"type": "CPU", "id": 0, "byte_size": loaded[artifact]}] if artifact in loaded else [],
            }
            for model, number, artifact in rows
        ]

    def infer(self, served: Served, request: InferenceRequest) -> InferenceResponse:
        """Run the variant. Raises `Invalid` for inputs or outputs that it does not have or take.

        Raises `InvalidModel` where it cannot be loaded, `QueueFull`, and `DeadlineUnmet` before anything is computed.
        """
        work = _checked_work(served, request)
        with metrics.measured(served.model, served.label):
            answer = self._batcher.run(_target(served), work)
        return _response(served, request, answer)

    async def infer_async(self, served: Served, request: InferenceRequest) -> InferenceResponse:
        """As `infer`, without a thread that waits. Cancelled before its turn, nothing is computed."""
        work = _checked_work(served, request)
        with metrics.measured(served.model, served.label):
            answer = await asyncio.wrap_future(self._batcher.submit(_target(served), work))
        return _response(served, request, answer)


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
    )


def _target(served: Served) -> Target:
    joins = served.batchable and may_be_joined(served.inputs, served.outputs)
    return Target(served.model, served.version, served.artifact, joins, served.padding)


def _checked_work(served: Served, request: InferenceRequest) -> Work:
    feeds = _checked_feeds(served, request.inputs)
    outputs = tuple(output.name for output in _wanted_outputs(served, request))
    return Work(feeds, outputs, request.priority or 0, request.timeout_us or None)


def _response(served: Served, request: InferenceRequest, answer: Answer) -> InferenceResponse:
    metrics.computed(served.model, served.label, answer.figures.compute.infer_ns / 1e9)
    wanted = _wanted_outputs(served, request)
    outputs = [_as_output(output, array, served) for output, array in zip(wanted, answer.arrays, strict=True)]
    return InferenceResponse(served, outputs, request.id, {"variant": served.label}, answer.figures)


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
