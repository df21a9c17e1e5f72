"""One model on the held-out samples, compared with nothing but their labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines.classes import Classes, ClassOutput, find_class_output
from app.engines.engine import LoadedModel
from worker.evaluation.accuracy import Share
from worker.evaluation.transcript import Transcript
from worker.samples import Feeder, Indices


@dataclass(frozen=True)
class Alone:
    """`accuracy` is 0..1; None is what these outputs or samples cannot tell."""

    samples: int
    accuracy: float | None
    notes: tuple[str, ...]


def assess(
    model: LoadedModel,
    feeder: Feeder,
    indices: Indices,
    labels: Classes | None,
    *,
    batch: int | None,
    progress: Callable[[float], None],
    transcript: Transcript | None = None,
) -> Alone:
    """Run `model` on the samples at `indices`, `batch` at a time. `labels` are those of all samples.

    What was answered to each is noted in `transcript`, if there are labels to hold it against.
    """
    names = [spec.name for spec in model.outputs]
    output: ClassOutput | None = None
    right, samples, infinite = Share(), 0, dict.fromkeys(names, 0)
    batches = feeder.batch_count(len(indices), batch)
    for done, fed in enumerate(feeder.batches(indices, batch), start=1):
        answer = model.run(fed.feeds)
        rows = len(next(iter(fed.feeds.values()))) if fed.feeds else len(fed)
        if done == 1:
            output = find_class_output(answer, rows)
        if output is not None and labels is not None and output.tells(labels):
            truth = labels[fed.indices]
            right.add(output.read(answer)[: len(fed)], truth)
            if transcript is not None:
                transcript.add_classes(output, fed.indices, answer, None, truth)
        for name, values in zip(names, answer, strict=True):
            infinite[name] += _infinite(values, rows=len(fed), fed=rows)
        samples += len(fed)
        progress(done / batches)
    return Alone(samples, right.value, tuple(_notes(output, labels, right, infinite)))


def _infinite(values: NDArray[Any], *, rows: int, fed: int) -> int:
    """How many of the first `rows` samples were answered with NaN or infinity; 1 where answers have no rows."""
    if values.dtype.kind != "f":
        return 0
    finite = np.isfinite(values)
    if values.ndim == 0 or len(values) != fed:
        return int(not finite.all())
    return int((~finite[:rows].reshape(rows, -1).all(axis=1)).sum())


def _notes(output: ClassOutput | None, labels: Classes | None, right: Share, infinite: dict[str, int]) -> Sequence[str]:
    notes = [f"output '{name}' is NaN or infinite for {count} samples" for name, count in infinite.items() if count]
    if output is None:
        notes.append("no output holds class scores: no accuracy is given")
    elif labels is None:
        notes.append("the dataset has no labels: no accuracy is given")
    elif right.value is None:
        notes.append("the labels are not classes of the model's output: no accuracy is given")
    return notes
