"""How far a candidate is from the upload, in one number that candidates can be compared by."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines import Engine
from worker.samples import Feeder, Indices


class Judge:
    """Keeps the upload's answers to a few samples, and compares those of candidates with them.

    The samples are some of those that calibrated: a repair has so few degrees of freedom that it cannot learn them by
    heart, and those that judge the variant in the end must not choose it.
    """

    def __init__(
        self,
        original: Path,
        arrays: Mapping[str, NDArray[Any]],
        indices: Indices,
        *,
        engine: Engine,
        threads: int,
    ) -> None:
        model = engine.load(original, intra_op_threads=threads)
        feeder = Feeder(model.inputs, arrays)
        self._engine = engine
        self._threads = threads
        self._batches = [batch.feeds for batch in feeder.batches(indices)]
        self._answers = [model.run(feeds) for feeds in self._batches]
        self.samples = len(indices)

    @property
    def has_floats(self) -> bool:
        """Whether there is an output to be compared: class numbers tell too little."""
        return any(answer.dtype.kind == "f" for answers in self._answers for answer in answers)

    def noise(self, candidate: Path) -> float:
        """Noise over signal, 0 where nothing differs, infinite where an answer is not finite and the upload's is.

        It is taken of each channel of an output by itself, so that coordinates up to 640 do not drown scores up to 1,
        and the mean is given; none counts for more than 1.
        """
        model = self._engine.load(candidate, intra_op_threads=self._threads)
        sums: dict[int, _ByChannel] = {}
        for feeds, expected in zip(self._batches, self._answers, strict=True):
            for position, (left, right) in enumerate(zip(expected, model.run(feeds), strict=True)):
                if left.dtype.kind == "f" and left.size:
                    sums.setdefault(position, _ByChannel(_channel_axis(left.shape))).add(left, right)
        return float(np.mean([channels.noise for channels in sums.values()])) if sums else 0.0


def decibels(noise: float) -> float | None:
    """`noise` as a signal-to-noise ratio; None where there is none, or no answer."""
    return -10.0 * float(np.log10(noise)) if 0.0 < noise < np.inf else None


def _channel_axis(shape: tuple[int, ...]) -> int | None:
    """The axis of an output, the batch aside, with the fewest elements, of those that have any to tell apart."""
    axes = [axis for axis in range(1, len(shape)) if shape[axis] > 1]
    return min(axes, key=lambda axis: shape[axis]) if axes else None


@dataclass
class _ByChannel:
    axis: int | None
    signal: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    error: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    broken: bool = False

    def add(self, expected: NDArray[Any], answer: NDArray[Any]) -> None:
        finite = np.isfinite(expected)
        self.broken |= expected.shape != answer.shape or not bool(np.isfinite(answer[finite]).all())
        if self.broken:
            return
        left = np.where(finite, expected, 0.0).astype(np.float64)
        right = np.where(finite, answer, 0.0).astype(np.float64)
        self.signal = _joined(self.signal, self._total(np.square(left)))
        self.error = _joined(self.error, self._total(np.square(left - right)))

    def _total(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.axis is None:
            return np.array([values.sum()])
        return np.array(values.sum(axis=tuple(axis for axis in range(values.ndim) if axis != self.axis)))

    @property
    def noise(self) -> float:
        if self.broken:
            return np.inf
        speaks = (self.signal > 0.0) | (self.error > 0.0)
        if not speaks.any():
            return 0.0
        signal, error = self.signal[speaks], self.error[speaks]
        return float(np.minimum(1.0, error / np.where(signal > 0.0, signal, error)).mean())


def _joined(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum, of different lengths where an axis is dynamic."""
    length = max(len(left), len(right))
    return np.pad(left, (0, length - len(left))) + np.pad(right, (0, length - len(right)))
