"""Whether a sample's answer depends on what else is in its batch: if so, requests must not be batched together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines.engine import LoadedModel
from app.errors import Invalid
from worker.evaluation.fidelity import SignalAndNoise
from worker.samples import Feeds

# Other sums are taken in another order for another batch, and a value at the border of two integers may fall to either.
# Measured, in decibels below the noise of quantization itself: static INT8, INT4 and FP16 60 and more, dynamic INT8 3.
_BELOW_QUANTIZATION = 0.01
_BELOW_SIGNAL = 1e-8

#: Rows in the batches that are tried.
ROWS = 8


@dataclass(frozen=True)
class Invariance:
    """`batchable` is None where it could not be tested. `note` says what was found, unless all is well."""

    batchable: bool | None
    note: str | None = None


@dataclass
class Drift:
    """How far answers move that had better stay: against the noise of quantization itself, and against the signal."""

    _moved: SignalAndNoise = field(default_factory=SignalAndNoise)
    _quantized: SignalAndNoise = field(default_factory=SignalAndNoise)
    _signal: SignalAndNoise = field(default_factory=SignalAndNoise)

    def add(self, exact: NDArray[Any], answer: NDArray[Any], other: NDArray[Any]) -> bool:
        """`answer` of the variant came out as `other`, where the original says `exact`.

        False where they differ in what no sum can tell: shape, integers, what is finite.
        """
        if not _add(self._moved, answer, other):
            return False
        _add(self._quantized, exact, answer)
        _add(self._signal, exact, exact)
        return True

    @property
    def is_negligible(self) -> bool:
        limit = max(_BELOW_QUANTIZATION * self._quantized.noise, _BELOW_SIGNAL * self._signal.signal)
        return self._moved.noise <= limit


def check_invariance(original: LoadedModel, variant: LoadedModel, rows: Feeds) -> Invariance:
    """Answer each row of `rows` alone, among the others, and in a batch filled up with zeros.

    `rows` are at most 8 samples of a model whose batch is dynamic.
    """
    count = len(next(iter(rows.values())))
    if count < 2 or all(_are_equal(values) for values in rows.values()):
        return Invariance(None, "whether answers depend on the batch is not known: that takes two different samples")
    alone = [variant.run(_slice(rows, row)) for row in range(count)]
    together = variant.run(rows)
    drift = Drift()
    for row in range(count):
        one = _slice(rows, row)
        exact = original.run(one)
        padded = variant.run({name: _padded(values, count) for name, values in one.items()})
        for position, answer in enumerate(alone[row]):
            if not _has_rows(together[position], count):
                return Invariance(False, "an output has no row for each sample: requests cannot share a batch")
            for among in (together[position][row : row + 1], padded[position][:1]):
                if not drift.add(exact[position], answer, among):
                    return Invariance(False, _DEPENDS)
    return Invariance(True) if drift.is_negligible else Invariance(False, _DEPENDS)


_DEPENDS = "a sample's answer depends on what else is in its batch: requests to this variant are not batched together"


def _slice(rows: Feeds, row: int) -> Feeds:
    return {name: values[row : row + 1] for name, values in rows.items()}


def _are_equal(values: NDArray[Any]) -> bool:
    return bool((values == values[:1]).all())


def _padded(row: NDArray[Any], count: int) -> NDArray[Any]:
    filling = np.zeros((count - 1, *row.shape[1:]), row.dtype)
    return np.concatenate([row, filling])


def _has_rows(values: NDArray[Any], count: int) -> bool:
    return values.ndim > 0 and len(values) == count


def _add(sums: SignalAndNoise, left: NDArray[Any], right: NDArray[Any]) -> bool:
    """Add two answers to `sums`; False where they differ in what no sum can tell: shape, integers, what is finite."""
    if left.shape != right.shape:
        return False
    if left.dtype.kind != "f":
        return bool((left == right).all())
    finite = np.isfinite(left) & np.isfinite(right)
    if not np.array_equal(np.isfinite(left), np.isfinite(right)):
        return False
    sums.add(left[finite], right[finite])
    return True


def varied(model: LoadedModel, request: Feeds, *, seed: int) -> list[Feeds]:
    """`request` and others like it that `model` answers: normal values for floats, zeros and ones for integers."""
    random = np.random.default_rng(seed)
    found = [request]
    for _ in range(ROWS - 1):
        other = {name: _drawn(values, random) for name, values in request.items()}
        try:
            model.run(other)
        except Invalid:
            break
        found.append(other)
    return found


def _drawn(values: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    if values.dtype.kind == "f":
        return (random.standard_normal(values.shape) * random.uniform(0.2, 5.0)).astype(values.dtype)
    if values.dtype.kind in "iub":
        return random.integers(0, 2, values.shape).astype(values.dtype)
    return values


def invariance_rows(feeds: Sequence[Feeds]) -> Feeds:
    """Single requests → one batch of them; those of other shapes than the first are left out."""
    first = feeds[0]
    same = [one for one in feeds[:ROWS] if all(one[name].shape == values.shape for name, values in first.items())]
    return {name: np.concatenate([one[name] for one in same]) for name in first}
