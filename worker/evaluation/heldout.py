"""Original and variant on the held-out samples, in one pass that keeps no output."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines.classes import Classes, ClassOutput, find_class_output
from app.engines.engine import LoadedModel
from app.errors import JobFailed
from worker.evaluation.accuracy import Share
from worker.evaluation.fidelity import MeanCosine, SignalAndNoise, finite_or_none
from worker.evaluation.transcript import Transcript
from worker.samples import Batch, Feeder, Indices


@dataclass(frozen=True)
class OutputFidelity:
    """One output of the variant against that of the original; None where that makes no sense."""

    name: str
    cosine: float | None
    sqnr_db: float | None


@dataclass(frozen=True)
class Comparison:
    """What held-out samples tell. Shares are 0..1; None is what these outputs or samples cannot tell.

    `lost` samples only the original classes right, `gained` ones only the variant.
    """

    samples: int
    original_accuracy: float | None
    variant_accuracy: float | None
    agreement: float | None
    cosine: float | None
    sqnr_db: float | None
    lost: int | None
    gained: int | None
    outputs: tuple[OutputFidelity, ...]
    notes: tuple[str, ...]


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


@dataclass
class _Sums:
    noise: SignalAndNoise = field(default_factory=SignalAndNoise)
    cosine: MeanCosine = field(default_factory=MeanCosine)
    unusable: str | None = None


class _Tally:
    def __init__(self, names: Sequence[str], labels: Classes | None, transcript: Transcript | None) -> None:
        self._names = names
        self._labels = labels
        self._transcript = transcript
        self._rows = 0
        self._sums = {name: _Sums() for name in names}
        self._class_output: ClassOutput | None = None
        self._agreement, self._original, self._variant = Share(), Share(), Share()
        self._lost, self._gained = 0, 0

    def add(self, batch: Batch, expected: Sequence[NDArray[Any]], answer: Sequence[NDArray[Any]]) -> None:
        fed = len(next(iter(batch.feeds.values()))) if batch.feeds else len(batch)
        for name, left, right in zip(self._names, expected, answer, strict=True):
            self._add_output(name, left, right, rows=len(batch), fed=fed)
        if self._rows == 0:
            self._class_output = find_class_output(expected, fed)
        if self._class_output is not None:
            self._add_classes(self._class_output, batch, expected, answer)
        else:
            self._note_vectors(batch, expected, answer, fed=fed)
        self._rows += len(batch)

    def _add_output(self, name: str, left: NDArray[Any], right: NDArray[Any], *, rows: int, fed: int) -> None:
        sums = self._sums[name]
        if left.dtype.kind != "f":
            sums.unusable = "not of a float type"
            return
        has_rows = left.ndim > 0 and left.shape[0] == fed
        if has_rows:
            left, right = left[:rows], right[:rows]
        finite = np.isfinite(left)
        if not np.isfinite(right[finite]).all():
            raise JobFailed(
                f"output '{name}' of the variant is NaN or infinite for a held-out sample that the original answers"
                " with finite numbers"
            )
        if not finite.all():
            sums.unusable = "not finite in the original itself"
            return
        sums.noise.add(left, right)
        if has_rows:
            sums.cosine.add(left, right)

    def _add_classes(
        self, output: ClassOutput, batch: Batch, expected: Sequence[NDArray[Any]], answer: Sequence[NDArray[Any]]
    ) -> None:
        left, right = (output.read(outputs)[: len(batch)] for outputs in (expected, answer))
        self._agreement.add(left, right)
        truth = None
        if self._labels is not None and output.tells(self._labels):
            truth = self._labels[batch.indices]
            self._original.add(left, truth)
            self._variant.add(right, truth)
            self._lost += int(((left == truth) & (right != truth)).sum())
            self._gained += int(((left != truth) & (right == truth)).sum())
        if self._transcript is not None:
            self._transcript.add_classes(output, batch.indices, expected, answer, truth)

    def _note_vectors(
        self, batch: Batch, expected: Sequence[NDArray[Any]], answer: Sequence[NDArray[Any]], *, fed: int
    ) -> None:
        """The first output whose rows can be compared, which is the one that the figures tell of."""
        if self._transcript is None:
            return
        for name, left, right in zip(self._names, expected, answer, strict=True):
            if self._sums[name].unusable is None:
                if left.ndim > 0 and len(left) == fed:
                    rows = len(batch)
                    self._transcript.add_vectors(name, batch.indices, left[:rows], right[:rows])
                return

    def result(self) -> Comparison:
        usable = [sums for sums in self._sums.values() if sums.unusable is None]
        together = SignalAndNoise()
        for sums in usable:
            together.join(sums.noise)
        return Comparison(
            samples=self._rows,
            original_accuracy=self._original.value,
            variant_accuracy=self._variant.value,
            agreement=self._agreement.value,
            cosine=usable[0].cosine.value if usable else None,
            sqnr_db=finite_or_none(together.sqnr_db) if usable else None,
            lost=self._lost if self._original.rows else None,
            gained=self._gained if self._original.rows else None,
            outputs=tuple(self._output(name) for name in self._names),
            notes=tuple(self._notes()),
        )

    def _output(self, name: str) -> OutputFidelity:
        sums = self._sums[name]
        if sums.unusable is not None:
            return OutputFidelity(name, None, None)
        return OutputFidelity(name, sums.cosine.value, finite_or_none(sums.noise.sqnr_db))

    def _notes(self) -> list[str]:
        notes = [
            f"output '{name}' is {sums.unusable}: neither cosine nor SQNR is given of it"
            for name, sums in self._sums.items()
            if sums.unusable is not None
        ]
        if self._class_output is None:
            notes.append("no output holds class scores: neither accuracy nor agreement is given")
        elif self._labels is not None and self._original.value is None:
            notes.append("the labels are not classes of the model's output: no accuracy is given")
        return notes
