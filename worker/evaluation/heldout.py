"""Original and variant on the held-out samples, in one pass that keeps no output."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.engines.classes import Classes
from app.engines.engine import LoadedModel
from app.errors import JobFailed
from worker.evaluation.metrics import AnswerBatch, Figure, Metric, OutputBatch, Subject, metrics_for
from worker.evaluation.metrics.metric import own_rows
from worker.evaluation.transcript import Transcript
from worker.samples import Batch, Feeder, Indices

MetricT = TypeVar("MetricT", bound=Metric)


@dataclass(frozen=True)
class Comparison:
    """What held-out samples tell: `metrics` are those that apply to the two models and the dataset."""

    samples: int
    outputs: tuple[str, ...]
    metrics: tuple[Metric, ...]
    notes: tuple[str, ...]

    def find(self, kind: type[MetricT]) -> MetricT | None:
        """The metric of this kind; None where it does not apply."""
        return next((metric for metric in self.metrics if isinstance(metric, kind)), None)

    @cached_property
    def figures(self) -> Mapping[str, Figure]:
        """What the metrics come to, by name."""
        return {metric.name: metric.figure() for metric in self.metrics}

    def figure(self, name: str) -> Figure:
        """What the metric `name` comes to; an empty figure where it does not apply."""
        return self.figures.get(name, Figure(None, None))


def compare(
    original: LoadedModel,
    variant: LoadedModel,
    feeder: Feeder,
    indices: Indices,
    labels: Classes | None,
    *,
    batch: int | None,
    progress: Callable[[float], None],
    transcript: Transcript | None = None,
) -> Comparison:
    """Run both on the samples at `indices`, `batch` at a time, the very same batches.

    `labels` are those of all samples. What was answered to each is noted in `transcript`. Raises
    `JobFailed` when the variant answers a sample with NaN or infinity that the original answers with finite numbers.
    """
    tally = _Tally([spec.name for spec in original.outputs], labels, transcript)
    batches = feeder.batch_count(len(indices), batch)
    # The runtime lets go of the interpreter's lock: the two models compute at the same time.
    with ThreadPoolExecutor(1) as beside:
        for done, samples in enumerate(feeder.batches(indices, batch), start=1):
            answer = beside.submit(variant.run, samples.feeds)
            expected = original.run(samples.feeds)
            tally.add(samples, expected, answer.result())
            progress(done / batches)
    return tally.result()


class _Tally:
    def __init__(self, names: Sequence[str], labels: Classes | None, transcript: Transcript | None) -> None:
        self._names = names
        self._labels = labels
        self._transcript = transcript
        self._rows = 0
        self._subject = Subject(tuple(names))
        self._metrics: tuple[Metric, ...] = ()
        # Why an output cannot be compared.
        self._unusable: dict[str, str] = {}

    def add(self, batch: Batch, expected: Sequence[NDArray[Any]], answer: Sequence[NDArray[Any]]) -> None:
        if self._rows == 0:
            self._subject = Subject.of(self._names, expected, batch.rows, self._labels, has_variant=True)
            self._metrics = metrics_for(self._subject)
        outputs = (self._output(batch, *each) for each in zip(self._names, expected, answer, strict=True))
        answers = AnswerBatch(self._subject, batch.indices, tuple(outputs))
        for metric in self._metrics:
            metric.add(answers)
        self._transcribe(answers, expected, answer)
        self._rows += len(batch)

    def _output(self, batch: Batch, name: str, original: NDArray[Any], variant: NDArray[Any]) -> OutputBatch:
        left, has_rows = own_rows(batch, original)
        right = variant[: len(batch)] if has_rows else variant
        problem = "not of a float type" if left.dtype.kind != "f" else _infinite(name, left, right)
        if problem is not None:
            self._unusable[name] = problem
        return OutputBatch(name, left, right, has_rows, is_comparable=problem is None)

    def _transcribe(
        self, answers: AnswerBatch, expected: Sequence[NDArray[Any]], answer: Sequence[NDArray[Any]]
    ) -> None:
        if self._transcript is None:
            return
        if self._subject.class_output is not None:
            self._transcript.add_classes(self._subject.class_output, answers.indices, expected, answer, answers.labels)
            return
        # The output that the cosine is of: the first that can be compared.
        compared = next((output for output in answers.outputs if output.name not in self._unusable), None)
        if compared is not None and compared.variant is not None and compared.has_rows:
            self._transcript.add_vectors(compared.name, answers.indices, compared.original, compared.variant)

    def result(self) -> Comparison:
        return Comparison(self._rows, tuple(self._names), self._metrics, tuple(self._notes()))

    def _notes(self) -> list[str]:
        notes = [
            f"output '{name}' is {self._unusable[name]}: neither cosine nor SQNR is given of it"
            for name in self._names
            if name in self._unusable
        ]
        if self._subject.class_output is None:
            notes.append("no output holds class scores: neither accuracy nor agreement is given")
        elif self._labels is not None and self._subject.class_labels is None:
            notes.append("the labels are not classes of the model's output: no accuracy is given")
        return notes


def _infinite(name: str, original: NDArray[Any], variant: NDArray[Any]) -> str | None:
    """Why the output cannot be compared, where the original itself is not finite.

    Raises `JobFailed` where only the variant is not.
    """
    finite = np.isfinite(original)
    if not np.isfinite(variant[finite]).all():
        raise JobFailed(
            f"output '{name}' of the variant is NaN or infinite for a held-out sample that the original answers"
            " with finite numbers"
        )
    return None if finite.all() else "not finite in the original itself"
