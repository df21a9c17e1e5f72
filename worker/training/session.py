"""One training, from the graph and its grids to what was learned: plain arrays in, plain arrays out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from worker.training.distill import Distillation
from worker.training.fake_quant import QuantizedModule
from worker.training.grids import ActivationGrid, BiasGrid, WeightGrid
from worker.training.history import Now, Samples, Schedule, Trained
from worker.training.losses import Loss
from worker.training.onnx_to_torch import OnnxModule

Answer = Callable[[Mapping[str, NDArray[Any]]], Sequence[NDArray[Any]]]


@dataclass(frozen=True)
class Learned:
    """`parameters` by initializer, `scales` by activation `(1,)` or weight, and `student`, which answers with them."""

    parameters: dict[str, NDArray[np.float32]]
    scales: dict[str, NDArray[np.float32]]
    trained: Trained
    student: Answer


class Session:
    """What is trained: the FP32 graph `model`, its weights in memory, rounded to `activations`, `weights` and `biases`;
    activations that are `shared` have the grid of another one.

    `trainable` names the initializers that change; `teacher` answers as is to be learned. The position of an output of
    class scores is `classes`, and `are_probabilities` where these are no logits. Raises `UnsupportedOperator`.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        activations: Mapping[str, ActivationGrid],
        weights: Mapping[str, WeightGrid],
        biases: Mapping[str, BiasGrid],
        shared: Mapping[str, str],
        trainable: Sequence[str],
        teacher: Answer,
        samples: Samples,
        *,
        classes: int | None,
        are_probabilities: bool,
        threads: int,
    ) -> None:
        torch.set_num_threads(threads)
        self._student = QuantizedModule(OnnxModule(model), activations, weights, biases, shared)
        self._trainable = [name for name in trainable if name in self._student.module.initializers]
        self._teacher, self._samples = teacher, samples
        self._loss = Loss(classes, are_probabilities, self._powers())
        self._grids = [*activations, *weights]

    def train(
        self,
        schedule: Schedule,
        *,
        tell: Callable[[Now], None],
        checkpoint: Path | None,
        save: Callable[[Path], None],
        folder: Path,
    ) -> Learned:
        """See `Distillation.run`."""
        distillation = Distillation(self._student, self._teacher, self._loss, self._samples, schedule, self._trainable)
        trained = distillation.run(tell=tell, checkpoint=checkpoint, save=save, folder=folder)
        parameters = {name: _array(self._student.module.parameter(name)) for name in self._trainable}
        return Learned(parameters, {name: self._student.scale(name) for name in self._grids}, trained, self._answer)

    def validation_loss(self, answer: Answer, batch_size: int) -> float:
        """The loss on samples held out of a model that answers so: what training makes small."""
        total, rows = 0.0, 0
        for batch in self._samples.feeder.batches(self._samples.validation, batch_size):
            answers, expected = (
                [torch.from_numpy(np.array(array)) for array in by(batch.feeds)] for by in (answer, self._teacher)
            )
            total += float(self._loss.of(answers, expected, None)) * len(batch)
            rows += len(batch)
        return total / rows

    def _answer(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        with torch.no_grad():
            answers = self._student({name: torch.from_numpy(values) for name, values in feeds.items()})
        return [answer.numpy() for answer in answers]

    def _powers(self) -> tuple[float | None, ...]:
        """The variance of each output that is of floating point, on samples held out."""
        answers = [self._teacher(batch.feeds) for batch in self._samples.feeder.batches(self._samples.validation)]
        outputs = [np.concatenate([answer.ravel() for answer in each]) for each in zip(*answers, strict=True)]
        return tuple(
            max(float(np.var(values, dtype=np.float64)), 1e-12) if values.dtype.kind == "f" else None
            for values in outputs
        )


def _array(parameter: torch.Tensor) -> NDArray[np.float32]:
    values: NDArray[np.float32] = parameter.detach().numpy().copy()
    return values
