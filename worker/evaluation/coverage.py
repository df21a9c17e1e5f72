"""How much of what held-out samples cause lies within the calibrated ranges: little, where the two are not alike."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines import Engine
from worker import inner_tensors
from worker.samples import Feeder, Indices

# A range may cut off a little of what it was calibrated on.
_ENOUGH_OF_ALL, _ENOUGH_OF_ONE = 0.995, 0.95

_WORST = 5
_BATCH = 8

Bounds = tuple[float, float]


@dataclass(frozen=True)
class TensorCoverage:
    """The share (0..1) of one tensor's values that lies within its range."""

    tensor: str
    covered: float


@dataclass(frozen=True)
class Coverage:
    """`mean` of the shares of `tensors` tensors, and those with the least."""

    tensors: int
    mean: float
    worst: tuple[TensorCoverage, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def note(self) -> str | None:
        """A warning where calibration seems to have seen other samples than evaluation."""
        if self.mean >= _ENOUGH_OF_ALL and self.worst[0].covered >= _ENOUGH_OF_ONE:
            return None
        least = self.worst[0]
        return (
            f"the calibrated ranges cover {self.mean:.2%} of the activations that held-out samples cause, and"
            f" {least.covered:.2%} of '{least.tensor}': the samples that calibrated seem unlike these;"
            " calibrate on more samples, drawn from what the model will be asked"
        )


def measure_coverage(
    reference: Path,
    ranges: Mapping[str, Bounds],
    arrays: Mapping[str, NDArray[Any]],
    indices: Indices,
    *,
    engine: Engine,
    threads: int,
) -> Coverage | None:
    """On the samples at `indices`, of the tensors of `reference` that have `ranges`; None where none has any."""
    if not ranges:
        return None
    names = list(ranges)
    loaded = inner_tensors.load_exposed(reference, names, engine=engine, threads=threads)
    inside, seen = np.zeros(len(names)), np.zeros(len(names))
    # Half a step beyond its end a value is rounded to it, and loses no more than others do.
    slack = np.array([(high - low) / 255 / 2 for low, high in ranges.values()])
    for batch in Feeder(loaded.inputs, arrays).batches(indices, _BATCH):
        for number, values in enumerate(loaded.run(batch.feeds)):
            low, high = ranges[names[number]]
            inside[number] += np.count_nonzero((values >= low - slack[number]) & (values <= high + slack[number]))
            seen[number] += values.size
    shares = inside / np.maximum(seen, 1.0)
    order = np.argsort(shares, kind="stable")[:_WORST]
    worst = tuple(TensorCoverage(names[number], float(shares[number])) for number in order)
    return Coverage(len(names), float(shares.mean()), worst)
