"""How close the outputs of a variant are to those of the original; everything is summed batch by batch."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import JobFailed

FloatArray = NDArray[np.floating[Any]]


class NotFinite(JobFailed):
    """A figure was asked for of values that hold NaN or infinity."""


def sqnr_db(reference: FloatArray, quantized: FloatArray) -> float:
    """Signal-to-quantization-noise ratio in decibels: 10·log10(Σ ref² / Σ (ref - q)²).

    Both arrays have the same shape; any shape will do. Infinite where they are equal, negative infinite where
    `reference` is all zeros and `quantized` is not, NaN never: raises `NotFinite` when either holds NaN or infinity.
    """
    sums = SignalAndNoise()
    sums.add(reference, quantized)
    return sums.sqnr_db


@dataclass
class SignalAndNoise:
    """The two sums of `sqnr_db`, over arrays that come one after another."""

    signal: float = 0.0
    noise: float = 0.0

    def add(self, reference: FloatArray, quantized: FloatArray) -> None:
        """Raises `NotFinite` when either array holds NaN or infinity."""
        signal = reference.astype(np.float64).ravel()
        with np.errstate(invalid="ignore"):
            error = signal - quantized.astype(np.float64).ravel()
        added_signal, added_noise = float(signal @ signal), float(error @ error)
        if not (math.isfinite(added_signal) and math.isfinite(added_noise)):
            raise NotFinite("the signal-to-noise ratio is defined for finite values only")
        self.signal += added_signal
        self.noise += added_noise

    def join(self, other: "SignalAndNoise") -> None:
        self.signal += other.signal
        self.noise += other.noise

    @property
    def sqnr_db(self) -> float:
        if self.noise == 0.0:
            return math.inf
        if self.signal == 0.0:
            return -math.inf
        return 10.0 * (math.log10(self.signal) - math.log10(self.noise))


def cosines(reference: FloatArray, quantized: FloatArray) -> NDArray[np.float64]:
    """`(rows,)`, of rows of the two, `(rows, …)` each and finite. Two zero vectors count 1, a zero and another 0."""
    left = reference.reshape(len(reference), -1).astype(np.float64)
    right = quantized.reshape(len(quantized), -1).astype(np.float64)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    equal = (left == right).all(axis=1)
    found = np.where(equal, 1.0, (left * right).sum(axis=1) / np.where(norms == 0.0, 1.0, norms))
    clipped: NDArray[np.float64] = np.clip(found, -1.0, 1.0)
    return clipped


@dataclass
class MeanCosine:
    """The mean, over samples, of the cosine between two vectors each."""

    total: float = 0.0
    rows: int = 0

    def add(self, reference: FloatArray, quantized: FloatArray) -> None:
        """Both `(rows, …)`, finite; a row is one vector."""
        found = cosines(reference, quantized)
        self.total += float(found.sum())
        self.rows += len(found)

    @property
    def value(self) -> float | None:
        return self.total / self.rows if self.rows else None


def finite_or_none(value: float | None) -> float | None:
    """`value` as figures and reports hold it: JSON has no infinity."""
    return value if value is not None and math.isfinite(value) else None
