"""What a metric is: a figure of quality, computed batch by batch while two models answer the same samples."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Self

from numpy.typing import NDArray

from app.contracts.figures import MetricFigures
from app.engines.classes import Classes, ClassOutput, find_class_output
from worker.samples import Batch, Indices


@dataclass(frozen=True)
class Subject:
    """What is measured, as far as the first batch tells.

    Attributes:
        outputs: Names of the model's outputs, in order.
        class_output: The output that holds classes; None where there is none.
        labels: The class of each sample of the dataset, `(dataset samples,)`; None where it has no labels.
        has_variant: False where the original is measured by itself.
    """

    outputs: tuple[str, ...]
    class_output: ClassOutput | None = None
    labels: Classes | None = None
    has_variant: bool = True

    @classmethod
    def of(
        cls,
        outputs: Sequence[str],
        answer: Sequence[NDArray[Any]],
        rows: int,
        labels: Classes | None,
        *,
        has_variant: bool,
    ) -> Self:
        """What `answer`, the original's to the first `rows` samples, tells of the model."""
        return cls(tuple(outputs), find_class_output(answer, rows), labels, has_variant)

    @cached_property
    def class_labels(self) -> Classes | None:
        """`labels`, where they are classes that `class_output` could name; else None."""
        return self.labels if self.class_output is not None and self.class_output.tells(self.labels) else None


@dataclass(frozen=True)
class OutputBatch:
    """One output of both models, for the samples of one batch.

    Attributes:
        name: As the model has it.
        original: `(samples, …)` where `has_rows` is true, else the output as it is.
        variant: Like `original`; None where the original is measured by itself.
        has_rows: The first axis counts the samples.
        is_comparable: Both hold floats, and finite ones only. Where this is false, differences make no sense.
    """

    name: str
    original: NDArray[Any]
    variant: NDArray[Any] | None
    has_rows: bool
    is_comparable: bool


@dataclass(frozen=True)
class AnswerBatch:
    """What both models answer to the samples at `indices` of the dataset; `outputs` has one entry per output."""

    subject: Subject
    indices: Indices
    outputs: tuple[OutputBatch, ...]

    @cached_property
    def labels(self) -> Classes | None:
        """The class of each of these samples, `(samples,)`; None where `Subject.class_labels` is."""
        labels = self.subject.class_labels
        return labels[self.indices] if labels is not None else None

    @cached_property
    def original_classes(self) -> Classes:
        """Top-1 of the original, `(samples,)`. Only for a subject that has a class output."""
        return self._classes([output.original for output in self.outputs])

    @cached_property
    def variant_classes(self) -> Classes:
        """Top-1 of the variant, `(samples,)`. Only for a subject that has a class output and a variant."""
        return self._classes([output.variant for output in self.outputs if output.variant is not None])

    def _classes(self, outputs: Sequence[NDArray[Any]]) -> Classes:
        assert self.subject.class_output is not None, "metrics of classes apply where an output holds classes"
        return self.subject.class_output.read(outputs)[: len(self.indices)]


@dataclass(frozen=True)
class Figure:
    """What a metric comes to; None is what was not measured, or is infinite.

    Attributes:
        original: Of the original; None where the metric compares the variant with the original.
        variant: Of the variant; None where the original is measured by itself.
        low: Lower end of the 95% interval of the change from original to variant or, without `original`, of `variant`.
        high: Upper end of that interval.
        by_output: The variant's figure for each output, where the metric tells them apart.
    """

    original: float | None
    variant: float | None
    low: float | None = None
    high: float | None = None
    by_output: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def change(self) -> float | None:
        """The variant's figure less the original's."""
        return self.variant - self.original if self.variant is not None and self.original is not None else None


@dataclass(frozen=True)
class Breach:
    """A budget that was exceeded, in words; `is_sure` is False where that may be chance."""

    words: str
    is_sure: bool = True


class Metric(ABC):
    """One metric of one comparison: an instance sees each batch once, and keeps sums rather than answers.

    Attributes:
        name: As reports have it: lower case, words joined by `_`.
        unit: `share` is 0..1 and shown in percent; anything else is shown behind the figure. May be empty.
        higher_is_better: The direction of improvement.
        subject: What is measured.
    """

    name: ClassVar[str]
    unit: ClassVar[str] = ""
    higher_is_better: ClassVar[bool] = True

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    @classmethod
    def applies_to(cls, subject: Subject) -> bool:
        """Whether it can be computed for `subject`. As a rule it takes a variant."""
        return subject.has_variant

    @abstractmethod
    def add(self, batch: AnswerBatch) -> None:
        """Take in the answers to one more batch of samples."""

    @abstractmethod
    def figure(self) -> Figure:
        """What all batches so far come to."""

    def breach(self, max_drop: float) -> Breach | None:
        """Say how the variant exceeds its budget; None where it does not, or where this metric does not decide.

        Args:
            max_drop: The share of the original's quality that may be lost, 0..1. With 0 every loss is a breach.
        """
        return None

    def expected_drop(self) -> float | None:
        """The share of the original's quality that is likely lost on other samples; None where it cannot be told.

        Searches compare candidates by it.
        """
        return None

    def entry(self) -> MetricFigures:
        """The metric as reports and comparisons show it."""
        found = self.figure()
        return MetricFigures(
            name=self.name,
            unit=self.unit,
            higher_is_better=self.higher_is_better,
            original=found.original,
            variant=found.variant,
            change=found.change,
            low=found.low,
            high=found.high,
        )


def allowed(max_drop: float) -> str:
    """What the budget is, for the words of a breach."""
    return f"the budget is {max_drop:.2%} (max_accuracy_drop={max_drop:g})"


def own_rows(batch: Batch, values: NDArray[Any]) -> tuple[NDArray[Any], bool]:
    """The rows of `values` that belong to samples of `batch`, and True; or all of it and False where it has no rows."""
    has_rows = values.ndim > 0 and values.shape[0] == batch.rows
    return (values[: len(batch)], True) if has_rows else (values, False)
