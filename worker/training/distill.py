"""Training of an INT8 model to answer as its FP32 original does."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker.samples import Feeder, Indices
from worker.training import checkpoints
from worker.training.fake_quant import QuantizedModule
from worker.training.losses import Loss

# Scales are logarithms, in which a step of this many learning rates is as small as one of weights.
_SCALE_RATE = 1.0

# Epochs without a better one after which no more comes, as a share of all, and at least so many.
_PATIENCE_SHARE, _LEAST_PATIENCE = 0.4, 3

_GRADIENT_NORM = 1.0
_CHECKPOINT_SECONDS = 10.0


@dataclass(frozen=True)
class Schedule:
    """`epochs` of steps of `batch_size` samples, at most `max_seconds`; the learning rate falls along a cosine."""

    epochs: int
    learning_rate: float
    batch_size: int
    max_seconds: float
    seed: int


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to: mean losses on samples trained on and held out, and how many of these it got right.

    `agreement` is the share of held-out samples whose top-1 is that of the FP32 original; None without classes.
    """

    epoch: int
    training_loss: float | None
    validation_loss: float
    agreement: float | None
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Now:
    """How training goes: for those who wait. `share` of it is done, by steps or by time, whichever is further."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    last: Epoch
    share: float
    eta_seconds: float


@dataclass(frozen=True)
class Samples:
    """What is trained on, and what is held out to tell when to stop. `labels` are those of all samples, if any."""

    feeder: Feeder
    training: Indices
    validation: Indices
    labels: NDArray[np.int64] | None


@dataclass
class Trained:
    """The history, epoch 0 being the state before; `best` is the epoch whose state the module is left in."""

    epochs: list[Epoch] = field(default_factory=list)
    best: int = 0
    stopped: str = "all epochs done"


class Distillation:
    """Trains `student` in place; `teacher` gives what a batch of feeds is to be answered with."""

    def __init__(
        self,
        student: QuantizedModule,
        teacher: Callable[[Mapping[str, NDArray[Any]]], Sequence[NDArray[Any]]],
        loss: Loss,
        samples: Samples,
        schedule: Schedule,
        trainable: Sequence[str],
    ) -> None:
        """`trainable` names the parameters of the student's graph that change besides its scales."""
        self._student, self._teacher, self._loss = student, teacher, loss
        self._samples, self._schedule = samples, schedule
        chosen = frozenset(trainable)
        for name, parameter in student.module.initializers.items():
            parameter.requires_grad_(name in chosen)
        weights = [parameter for parameter in student.module.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.Adam(
            [
                {"params": weights, "share": 1.0},
                {"params": student.scale_parameters(), "share": _SCALE_RATE},
            ],
            lr=schedule.learning_rate,
        )
        self._spent = 0.0
        self._begun = time.monotonic()

    def run(
        self, *, tell: Callable[[Now], None], checkpoint: Path | None, save: Callable[[Path], None], folder: Path
    ) -> Trained:
        """Train until the epochs are done, time is up, or it gets no better; the best state is what remains.

        Goes on from `checkpoint` where there is one. Later ones are written into `folder` and handed to `save`.
        """
        trained, best = Trained(), self._state()
        if checkpoint is not None:
            trained, best, self._spent = self._resumed(checkpoint)
        if not trained.epochs:
            trained.epochs.append(self._epoch(0, None))
        saved_at = time.monotonic()
        for epoch in range(len(trained.epochs), self._schedule.epochs + 1):
            mean_loss = self._trained_epoch(epoch, trained.epochs[-1], tell)
            trained.epochs.append(self._epoch(epoch, mean_loss))
            if trained.epochs[-1].validation_loss < trained.epochs[trained.best].validation_loss:
                trained.best, best = epoch, self._state()
            if self._elapsed() >= self._schedule.max_seconds:
                trained.stopped = "time was up"
                break
            if epoch - trained.best >= max(_LEAST_PATIENCE, _PATIENCE_SHARE * self._schedule.epochs):
                trained.stopped = "it got no better"
                break
            if time.monotonic() - saved_at >= _CHECKPOINT_SECONDS:
                save(self._saved(folder / f"checkpoint-{epoch}.npz", trained, best))
                saved_at = time.monotonic()
        self._restore(best)
        return trained

    def _trained_epoch(self, epoch: int, last: Epoch, tell: Callable[[Now], None]) -> float:
        order = np.random.default_rng((self._schedule.seed, epoch)).permutation(self._samples.training)
        batches = self._samples.feeder.batch_count(len(order), self._schedule.batch_size)
        losses = []
        for step, (feeds, expected, labels) in enumerate(self._batches(order), start=1):
            if self._elapsed() >= self._schedule.max_seconds:
                break
            share = self._share(epoch, step, batches)
            for group in self._optimizer.param_groups:
                group["lr"] = self._schedule.learning_rate * group["share"] * 0.5 * (1.0 + math.cos(math.pi * share))
            self._optimizer.zero_grad(set_to_none=True)
            loss = self._loss.of(self._student(feeds), expected, labels)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(
                [each for group in self._optimizer.param_groups for each in group["params"]], _GRADIENT_NORM
            )
            self._optimizer.step()
            losses.append(float(loss.detach()))
            left = self._elapsed() * (1.0 - share) / share
            tell(Now(epoch, self._schedule.epochs, step, batches, losses[-1], last, share, left))
        return float(np.mean(losses)) if losses else math.nan

    def _share(self, epoch: int, step: int, batches: int) -> float:
        by_steps = (epoch - 1 + step / batches) / self._schedule.epochs
        return min(1.0, max(by_steps, self._elapsed() / self._schedule.max_seconds))

    def _elapsed(self) -> float:
        return self._spent + time.monotonic() - self._begun

    def _epoch(self, epoch: int, training_loss: float | None) -> Epoch:
        """The state of the student on the samples held out."""
        total, agreeing, rows = 0.0, 0, 0
        with torch.no_grad():
            for feeds, expected, labels in self._batches(self._samples.validation):
                answers = self._student(feeds)
                count = len(answers[0]) if answers[0].ndim else 1
                total += float(self._loss.of(answers, expected, labels)) * count
                rows += count
                if self._loss.classes is not None:
                    left, right = (outputs[self._loss.classes].argmax(dim=1) for outputs in (answers, expected))
                    agreeing += int((left == right).sum())
        agreement = agreeing / rows if self._loss.classes is not None else None
        loss = training_loss if training_loss is not None and math.isfinite(training_loss) else None
        mean = total / rows
        return Epoch(epoch, loss, mean if math.isfinite(mean) else math.inf, agreement, self._elapsed())

    def _batches(
        self, indices: Indices
    ) -> Iterator[tuple[dict[str, Tensor], list[Tensor], Tensor | None]]:
        for batch in self._samples.feeder.batches(indices, self._schedule.batch_size):
            feeds = {name: torch.from_numpy(values) for name, values in batch.feeds.items()}
            expected = [torch.from_numpy(np.array(answer)) for answer in self._teacher(batch.feeds)]
            labels = None
            if self._samples.labels is not None and len(batch) == len(next(iter(batch.feeds.values()))):
                labels = torch.from_numpy(self._samples.labels[batch.indices])
            yield feeds, expected, labels

    def _changing(self) -> dict[str, Tensor]:
        return {name: value for name, value in self._student.named_parameters() if value.requires_grad}

    def _state(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self._changing().items()}

    def _restore(self, state: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in self._changing().items():
                value.copy_(state[name])
