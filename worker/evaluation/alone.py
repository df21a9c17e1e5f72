"""One model on the held-out samples, compared with nothing but their labels."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines.classes import Classes
from app.engines.engine import LoadedModel
from worker.evaluation.metrics import AnswerBatch, Metric, OutputBatch, Subject, metrics_for
from worker.evaluation.metrics.metric import own_rows
from worker.evaluation.transcript import Transcript
from worker.samples import Feeder, Indices


@dataclass(frozen=True)
class Alone:
    """What held-out samples tell: `metrics` are those that apply to one model and the dataset."""

    samples: int
    metrics: tuple[Metric, ...]
    notes: tuple[str, ...]

    @property
    def accuracy(self) -> float | None:
        """0..1; None is what these outputs or samples cannot tell."""
        return next((metric.figure().original for metric in self.metrics if metric.name == "accuracy"), None)


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
    subject = Subject(tuple(names), has_variant=False)
    metrics: tuple[Metric, ...] = ()
    samples, infinite = 0, dict.fromkeys(names, 0)
    batches = feeder.batch_count(len(indices), batch)
    for done, fed in enumerate(feeder.batches(indices, batch), start=1):
        answer = model.run(fed.feeds)
        if done == 1:
            subject = Subject.of(names, answer, fed.rows, labels, has_variant=False)
            metrics = metrics_for(subject)
        rows = [(name, *own_rows(fed, values)) for name, values in zip(names, answer, strict=True)]
        outputs = tuple(
            OutputBatch(name, values, None, has_rows, is_comparable=False) for name, values, has_rows in rows
        )
        answers = AnswerBatch(subject, fed.indices, outputs)
        for metric in metrics:
            metric.add(answers)
        if transcript is not None and subject.class_output is not None and answers.labels is not None:
            transcript.add_classes(subject.class_output, fed.indices, answer, None, answers.labels)
        for output in outputs:
            infinite[output.name] += _infinite(output.original, has_rows=output.has_rows)
        samples += len(fed)
        progress(done / batches)
    return Alone(samples, metrics, tuple(_notes(subject, infinite)))


def _infinite(values: NDArray[Any], *, has_rows: bool) -> int:
    """How many samples were answered with NaN or infinity; 1 where answers have no rows."""
    if values.dtype.kind != "f":
        return 0
    finite = np.isfinite(values)
    if not has_rows:
        return int(not finite.all())
    return int((~finite.reshape(len(values), -1).all(axis=1)).sum())


def _notes(subject: Subject, infinite: dict[str, int]) -> Iterator[str]:
    yield from (f"output '{name}' is NaN or infinite for {count} samples" for name, count in infinite.items() if count)
    if subject.class_output is None:
        yield "no output holds class scores: no accuracy is given"
    elif subject.labels is None:
        yield "the dataset has no labels: no accuracy is given"
    elif subject.class_labels is None:
        yield "the labels are not classes of the model's output: no accuracy is given"
