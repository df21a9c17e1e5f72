"""Training of an INT8 model to answer as its FP32 original does."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker.samples import Indices
from worker.training import checkpoints
from worker.training.fake_quant import QuantizedModule
from worker.training.history import Epoch, Now, Samples, Schedule, Trained
from worker.training.losses import Loss

# Epochs without a better one after which no more comes, as a share of all, and at least so many.
_PATIENCE_SHARE, _LEAST_PATIENCE = 0.6, 3

_GRADIENT_NORM = 1.0

# What Adam remembers of a parameter.
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
_CHECKPOINT_SECONDS = 10.0


_log = logging.getLogger(__name__)


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
        weights = {name: student.module.parameter(name) for name in trainable}
        scales = student.learned_scales()
        for parameter in student.module.parameters():
            parameter.requires_grad_(False)
        for parameter in weights.values():
            parameter.requires_grad_(True)
        self._changing = {f"weight {name}": value for name, value in weights.items()}
        self._changing |= {f"scale {name}": value for name, value in scales.items()}
        # Scales are logarithms, in which a step is as small as one of weights: one rate suits both.
        self._optimizer = torch.optim.Adam(list(self._changing.values()), lr=schedule.learning_rate)
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
            try:
                trained, best, self._spent = self._resumed(checkpoint)
            except ValueError as error:
                _log.warning("training begins anew: %s", error)
        if not trained.epochs:
            trained.epochs.append(self._epoch(0, None))
        saved_at = time.monotonic()
        for epoch in range(len(trained.epochs), self._schedule.epochs + 1):
            mean_loss = self._trained_epoch(epoch, trained.epochs[-1], tell)
            trained.epochs.append(self._epoch(epoch, mean_loss))
            if trained.epochs[-1].validation_loss < trained.epochs[trained.best].validation_loss:
                trained.best, best = epoch, self._state()
            if not math.isfinite(trained.epochs[-1].validation_loss):
                trained.stopped = "it diverged"
                break
            if self._elapsed() >= self._schedule.max_seconds:
                trained.stopped = "time was up"
                break
            if epoch - trained.best >= max(_LEAST_PATIENCE, _PATIENCE_SHARE * self._schedule.epochs):
                trained.stopped = "it got no better"
                break
            if time.monotonic() - saved_at >= _CHECKPOINT_SECONDS:
                save(self._saved(folder / "checkpoint.npz", trained, best))
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
                group["lr"] = self._schedule.learning_rate * 0.5 * (1.0 + math.cos(math.pi * share))
            self._optimizer.zero_grad(set_to_none=True)
            loss = self._loss.of(self._student(feeds), expected, labels)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._changing.values(), _GRADIENT_NORM)
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
        """The state of the student on the samples held out, judged by how true it is to the teacher."""
        total, agreeing, rows = 0.0, 0, 0
        with torch.no_grad():
            for feeds, expected, _ in self._batches(self._samples.validation):
                answers = self._student(feeds)
                count = len(answers[0]) if answers[0].ndim else 1
                total += float(self._loss.of(answers, expected, None)) * count
                rows += count
                if self._loss.classes is not None:
                    left, right = (outputs[self._loss.classes].argmax(dim=1) for outputs in (answers, expected))
                    agreeing += int((left == right).sum())
        agreement = agreeing / rows if self._loss.classes is not None else None
        loss = training_loss if training_loss is not None and math.isfinite(training_loss) else None
        mean = total / rows
        return Epoch(epoch, loss, mean if math.isfinite(mean) else math.inf, agreement, self._elapsed())

    def _batches(self, indices: Indices) -> Iterator[tuple[dict[str, Tensor], list[Tensor], Tensor | None]]:
        for batch in self._samples.feeder.batches(indices, self._schedule.batch_size):
            feeds = {name: torch.from_numpy(values) for name, values in batch.feeds.items()}
            expected = [torch.from_numpy(np.array(answer)) for answer in self._teacher(batch.feeds)]
            labels = None
            if self._samples.labels is not None and len(batch) == len(next(iter(batch.feeds.values()))):
                labels = torch.from_numpy(self._samples.labels[batch.indices])
            yield feeds, expected, labels

    def _state(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self._changing.items()}

    def _restore(self, state: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in self._changing.items():
                value.copy_(state[name])

    def _saved(self, path: Path, trained: Trained, best: Mapping[str, Tensor]) -> Path:
        moments = {name: self._moments(value) for name, value in self._changing.items()}
        arrays = {f"now {name}": value.detach() for name, value in self._changing.items()}
        arrays |= {f"best {name}": value for name, value in best.items()}
        arrays |= {f"{kind} {name}": found[kind] for name, found in moments.items() for kind in _MOMENTS}
        description = {
            "schedule": asdict(self._schedule),
            "epochs": [epoch.as_json() for epoch in trained.epochs],
            "best": trained.best,
            "spent": self._elapsed(),
        }
        return checkpoints.save(path, {name: value.numpy() for name, value in arrays.items()}, description)

    def _moments(self, parameter: Tensor) -> dict[str, Tensor]:
        # What no sample has reached yet has none.
        zeros = {kind: torch.zeros_like(parameter) for kind in _MOMENTS} | {"step": torch.zeros(())}
        known: dict[str, Tensor] = self._optimizer.state.get(parameter, {})
        return zeros | known

    def _resumed(self, checkpoint: Path) -> tuple[Trained, dict[str, Tensor], float]:
        """The state that an earlier attempt at the same job saved; raises `ValueError` where it is of another."""
        arrays, description = checkpoints.load(checkpoint)
        found = {name: torch.from_numpy(values) for name, values in arrays.items()}
        if description["schedule"] != asdict(self._schedule) or found.keys() != {
            f"{kind} {name}" for name in self._changing for kind in ("now", "best", *_MOMENTS)
        }:
            raise ValueError("the checkpoint is of another job")
        self._restore({name: found[f"now {name}"] for name in self._changing})
        for name, value in self._changing.items():
            self._optimizer.state[value] = {kind: found[f"{kind} {name}"] for kind in _MOMENTS}
        trained = Trained([Epoch(**epoch) for epoch in description["epochs"]], description["best"])
        return trained, {name: found[f"best {name}"] for name in self._changing}, description["spent"]
