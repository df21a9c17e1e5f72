"""Quantization-aware training: INT8 whose weights and scales have learned to answer as the FP32 original does."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from app.contracts.options import QatOptions
from app.engines import LoadedModel
from app.engines.classes import find_class_output
from app.engines.cpu import usable_cores
from app.errors import JobFailed
from worker import onnx_files
from worker.calibration.ranges import ActivationRange
from worker.evaluation.fidelity import MeanCosine
from worker.graph import bias, embeddings
from worker.graph.constants import Constants
from worker.graph.weights import Weight, largest_integer
from worker.methods.int8 import BestInt8, best_int8
from worker.methods.method import ARTIFACT, CalibrationSamples, Made, Task
from worker.operators import CLIPPING, WITH_VECTORS
from worker.repair.design import Design
from worker.samples import Feeder, Indices
from worker.training.grids import ActivationGrid, BiasGrid, WeightGrid
from worker.training.history import Now, Samples, Schedule

if TYPE_CHECKING:
    from worker.training.session import Learned, Session

# Of the samples that may be looked at, this part tells when to stop and is not trained on.
_VALIDATION_SHARE, _MOST_VALIDATION = 0.2, 1024

_FIDELITY_SAMPLES = 32
_CONSISTENCY_SAMPLES = 512

_RATE_OF_8_BITS = 3e-5

_DOWNWARDS = 1.0 - 1e-6

#: The share of samples on which the artifact must answer with the class that the trained model did.
CONSISTENT = 0.995

# Values that lie between two integers go one way or the other: so many samples tell nothing.
_FEW_DISAGREE = 2


def make(task: Task) -> Made:
    """Raises `NotQuantizable` for a model that cannot be integer or trained, `JobFailed` without torch."""
    try:
        import worker.training.session  # noqa: F401 - heavy, and an extra
    except ModuleNotFoundError as error:
        raise JobFailed("method 'qat' trains with PyTorch: install the worker with pip install 'octet[qat]'") from error
    options = QatOptions.model_validate(task.options)
    base = best_int8(task, options)
    assert task.calibration is not None
    return _Qat(task, task.calibration, options, base).make()


@dataclass(frozen=True)
class _Qat:
    task: Task
    samples: CalibrationSamples
    options: QatOptions
    base: BestInt8

    def make(self) -> Made:
        self._check_fidelity()
        session = self._session()
        learned = session.train(
            Schedule(
                self.options.epochs,
                self._learning_rate,
                self.options.batch_size,
                self.options.max_seconds,
                self.options.seed,
            ),
            tell=self._tell,
            checkpoint=self.task.checkpoint,
            save=self.task.save,
            folder=self.task.folder,
        )
        design = self._trained_design(learned)
        candidate = self.task.folder / "trained" / ARTIFACT
        candidate.parent.mkdir(exist_ok=True)
        data = design.write(candidate)
        return self._made(session, learned, design, candidate, data)

    @cached_property
    def design(self) -> Design:
        """The INT8 that training starts from."""
        return self.base.climbed.design

    @property
    def _learning_rate(self) -> float:
        """What the client asked for, or as much as suits the grid: wider steps take weights further to cross."""
        return self.options.learning_rate or _RATE_OF_8_BITS * 2 ** (8 - self.options.activation_bits)

    @cached_property
    def original(self) -> LoadedModel:
        return self.task.engine.load(self.task.source, intra_op_threads=usable_cores())

    @cached_property
    def feeder(self) -> Feeder:
        return Feeder(self.original.inputs, self.samples.arrays)

    @cached_property
    def parts(self) -> Samples:
        """Validation from the end of the development samples, so that what calibrated is trained on."""
        development = self.samples.development
        held_out = max(1, min(_MOST_VALIDATION, int(len(development) * _VALIDATION_SHARE)))
        return Samples(self.feeder, development[:-held_out], development[-held_out:], self._class_labels())

    @cached_property
    def _first_answers(self) -> tuple[int, Sequence[NDArray[Any]]]:
        """The original's outputs for one batch, which tell what kind of outputs they are, and its rows."""
        feeds = next(self.feeder.batches(self.samples.development)).feeds
        return len(next(iter(feeds.values()))), self.original.run(feeds)

    @cached_property
    def _classes(self) -> tuple[int | None, bool]:
        """The position of the output of class scores, if there is one, and whether they are probabilities."""
        rows, answers = self._first_answers
        output = find_class_output(answers, rows)
        if output is None or output.classes is None:
            return None, False
        scores = answers[output.position]
        sums_to_one = bool((scores >= 0).all()) and bool(np.allclose(scores.sum(axis=1), 1.0, atol=1e-3))
        return output.position, sums_to_one

    def _class_labels(self) -> NDArray[np.int64] | None:
        """The labels, where they are classes of the output that scores them."""
        labels, (position, _) = self.samples.labels, self._classes
        if labels is None or position is None:
            return None
        classes = self._first_answers[1][position].shape[1]
        return labels if bool((labels >= 0).all() and (labels < classes).all()) else None

    def _check_fidelity(self) -> None:
        from worker.training.fidelity import check_fidelity
        from worker.training.onnx_to_torch import OnnxModule

        chosen = self.samples.development[:_FIDELITY_SAMPLES]
        batches = [batch.feeds for batch in self.feeder.batches(chosen)]
        module = OnnxModule(onnx_files.load(self.design.model))
        check_fidelity(self.design.model, module, batches, engine=self.task.engine, threads=usable_cores())

    @cached_property
    def _weights(self) -> list[Weight]:
        return self.design.weights(self._graph)

    @cached_property
    def _graph(self) -> onnx.ModelProto:
        """The FP32 graph that training starts from, its corrections of biases included."""
        model = onnx_files.load(self.design.model)
        bias.correct(model, self.design.errors)
        return model

    def _activation_grids(self) -> dict[str, ActivationGrid]:
        levels, selection = self.design.types.levels, self.design.selection
        grids = {
            name: ActivationGrid.over(min(found.low, 0.0), max(found.high, 0.0), levels)
            for name, found in self.design.ranges.items()
            # What a Relu or Clip reads is rounded behind it; a tensor of zeros has no scale.
            if name in selection.activations and name not in self._shared and found.low < found.high
        }
        for name, (low, high) in selection.fixed.items():
            # As the lowered HardSigmoid has it, what lies between two integers becomes the upper one.
            grids[name] = ActivationGrid.over(low, high * _DOWNWARDS, levels, learned=False)
        return grids

    @cached_property
    def _shared(self) -> dict[str, str]:
        """Activations that the writer gives the scale of another, as those that a Reshape or a pool leads from."""
        shared, known = {}, self.design.all_ranges()
        for node in onnx_files.load(self.base.climbed.artifact, weights=False).graph.node:
            owner = node.input[1].removesuffix("_scale") if node.op_type == "QuantizeLinear" else ""
            if owner != node.input[0] and owner in known and known[owner].low < known[owner].high:
                shared[node.input[0]] = owner
        return shared

    def _weight_grids(self) -> dict[str, WeightGrid]:
        largest = largest_integer(self.design.types)
        scales = self.design.all_scales(self._weights)
        return {weight.name: WeightGrid(scales[weight.name], weight.axis, largest) for weight in self._weights}

    def _bias_grids(self) -> dict[str, BiasGrid]:
        """Those of Convs and Gemms; that of a MatMul is an Add in FP32."""
        activations = self._activation_grids()
        return {
            weight.node.input[2]: BiasGrid(weight.node.input[0], weight.name)
            for weight in self._weights
            if len(weight.node.input) > 2
            and weight.node.input[2]
            and self._shared.get(weight.node.input[0], weight.node.input[0]) in activations
        }

    def _session(self) -> "Session":
        from worker.training.session import Session

        position, are_probabilities = self._classes
        model = onnx.ModelProto()
        model.CopyFrom(self._graph)
        embeddings.fake_quantize(model, frozenset(self.design.selection.tables))
        _drop_clips(model, frozenset(self.design.selection.same_range))
        if not any(answer.dtype.kind == "f" for answer in self._first_answers[1]):
            raise JobFailed("no output of this model is of floating point: there is nothing to train it towards")
        return Session(
            model,
            self._activation_grids(),
            self._weight_grids(),
            self._bias_grids(),
            self._shared,
            _trainable(self._graph, self._weights),
            self.original.run,
            self.parts,
            classes=position,
            are_probabilities=are_probabilities,
            threads=usable_cores(),
        )

    def _tell(self, now: Now) -> None:
        measured = "" if now.last.agreement is None else f" · agreement {100 * now.last.agreement:.1f} %"
        left = _in_words(now.eta_seconds)
        detail = {
            "text": f"epoch {now.epoch} of {now.epochs} · loss {now.loss:.4f}{measured} · {left} left",
            "epoch": now.epoch,
            "epochs": now.epochs,
            "step": now.step,
            "steps": now.steps,
            "loss": now.loss,
            "validation_loss": now.last.validation_loss,
            "agreement": now.last.agreement,
            "eta_seconds": now.eta_seconds,
        }
        self.task.progress("train", now.share, detail)

    def _trained_design(self, learned: "Learned") -> Design:
        """The INT8 design with what was learned, on an FP32 graph with the trained weights."""
        model = onnx.ModelProto()
        model.CopyFrom(self._graph)
        constants = Constants(model.graph)
        for name, values in learned.parameters.items():
            constants.replace(name, values)
        path = self.task.folder / "trained.onnx"
        onnx_files.save_beside(model, path)
        ranges = dict(self.design.ranges)
        for name, grid in self._activation_grids().items():
            if name in ranges:
                ranges[name] = ActivationRange(*grid.bounds(float(learned.scales[name][0])))
        ranges |= {name: ranges[owner] for name, owner in self._shared.items() if {name, owner} <= ranges.keys()}
        scales = {weight.name: learned.scales[weight.name] for weight in self._weights}
        return replace(self.design, model=path, ranges=ranges, scales=scales, errors={})

    def _made(self, session: "Session", learned: "Learned", design: Design, candidate: Path, data: Path | None) -> Made:
        """The trained variant, or the INT8 that it began with where that is no worse."""
        trained, base = (
            self.task.engine.load(path, intra_op_threads=usable_cores())
            for path in (candidate, self.base.climbed.artifact)
        )
        after, before = (session.validation_loss(model.run, self.options.batch_size) for model in (trained, base))
        consistency = self._consistency(trained.run, learned.student)
        notes: list[str] = []
        if learned.trained.best == 0:
            notes.append(
                "training did not help (no epoch did better on samples held out than the state before the first): this"
                " is the INT8 that it began with"
            )
        elif not after < before:
            notes.append(
                f"training did not help (loss {after:.4g} on samples held out, {before:.4g} before): this is the INT8"
                " that it began with"
            )
        elif consistency < min(CONSISTENT, 1.0 - _FEW_DISAGREE / len(self._consistency_samples)):
            notes.append(
                f"the artifact agrees with the trained model on {consistency:.2%} of samples only: this is the INT8"
                " that training began with"
            )
        made = self.base.made()
        sections = {
            "training": {
                "samples": len(self.parts.training),
                "validation_samples": len(self.parts.validation),
                "labelled": self.parts.labels is not None,
                "parameters": sum(values.size for values in learned.parameters.values()),
                "learned_scales": sum(scales.size for scales in learned.scales.values()),
                "stopped_because": learned.trained.stopped,
                "best_epoch": learned.trained.best,
                "loss_before": before,
                "loss_after": after,
                "agrees_with_trained_model": consistency,
                "kept": not notes,
            },
            "epochs": [epoch.as_json() for epoch in learned.trained.epochs],
        }
        if notes:
            return replace(made, sections=sections, notes=(*made.notes, *notes))
        if made.data is not None:
            made.data.unlink()
        for file in candidate.parent.iterdir():
            file.replace(self.task.folder / file.name)
        return replace(
            made,
            data=self.task.folder / data.name if data is not None else None,
            sections=sections,
            repairs=design.repaired({weight.node.name: "trained" for weight in self._weights}).repairs,
            ranges={name: (found.low, found.high) for name, found in design.ranges.items()},
        )

    @property
    def _consistency_samples(self) -> Indices:
        return self.samples.development[::-1][:_CONSISTENCY_SAMPLES]

    def _consistency(
        self,
        artifact: Callable[[Mapping[str, NDArray[Any]]], Sequence[NDArray[Any]]],
        student: Callable[[Mapping[str, NDArray[Any]]], Sequence[NDArray[Any]]],
    ) -> float:
        """The share of samples that the artifact classifies as the trained model does; without classes, the cosine."""
        position, _ = self._classes
        equal, rows, cosine = 0, 0, MeanCosine()
        for batch in self.feeder.batches(self._consistency_samples):
            left, right = artifact(batch.feeds), student(batch.feeds)
            if position is not None:
                equal += int((left[position].argmax(axis=1) == right[position].argmax(axis=1)).sum())
                rows += len(left[position])
                continue
            for one, other in zip(left, right, strict=True):
                if one.dtype.kind == "f" and one.ndim > 0:
                    cosine.add(one, other)
        return equal / rows if rows else (cosine.value or 0.0)


def _drop_clips(model: onnx.ModelProto, clipped: frozenset[str]) -> None:
    """Take out what clips the tensors `clipped`, as the writer does: the ends of the integers are all that is left.

    A scale that grows in training moves these ends, and with them what the artifact clips at.
    """
    for node in model.graph.node:
        if node.op_type in CLIPPING and node.input[0] in clipped:
            node.op_type = "Identity"
            del node.input[1:]
            del node.attribute[:]


def _in_words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _trainable(model: onnx.ModelProto, found: Sequence[Weight]) -> list[str]:
    """The weights that are rounded, and the vectors that are added or multiplied channel by channel, as biases are.

    Other constants are none of the model's knowledge: the square root of two in a GELU, the minus infinity of a mask.
    """
    constants = Constants(model.graph)
    names = {weight.name: None for weight in found}
    for node in model.graph.node:
        if node.op_type in WITH_VECTORS:
            names |= {name: None for name in node.input if _is_vector(constants, name)}
    return list(names)


def _is_vector(constants: Constants, name: str) -> bool:
    if not name or not constants.is_float(name):
        return False
    values = constants[name]
    return values.ndim == 1 and values.size > 1 and bool(np.isfinite(values).all())
