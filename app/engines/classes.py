"""Which output of a model tells a class, and which class it tells."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_UNIT_TOLERANCE = 1e-3

Classes = NDArray[np.int64]


@dataclass(frozen=True)
class ClassOutput:
    """The output that classes are read from: its position, and the number of classes where it holds scores.

    `classes` is None for an output of class numbers, one for each sample.
    """

    position: int
    classes: int | None

    def read(self, outputs: Sequence[NDArray[Any]]) -> Classes:
        """The top-1 class of each row, `(rows,)`; of equal scores the first."""
        values = outputs[self.position]
        return values.argmax(axis=1).astype(np.int64) if self.classes is not None else values.astype(np.int64)

    def tells(self, labels: Classes | None) -> bool:
        """Whether `labels` are classes that this output could name."""
        if labels is None or bool((labels < 0).any()):
            return False
        return self.classes is None or bool((labels < self.classes).all())


def find_class_output(outputs: Sequence[NDArray[Any]], rows: int) -> ClassOutput | None:
    """The first of `outputs`, of a batch of `rows` samples, that holds classes; None when there is none.

    Scores are floats `(rows, classes)`. Rows of unit length are embeddings instead, unless they are probabilities
    of which one is all but 1. Integers `(rows,)` are class numbers.
    """
    for position, values in enumerate(outputs):
        if values.shape == (rows,) and values.dtype.kind in "iu":
            return ClassOutput(position, None)
        if values.ndim == 2 and values.shape[0] == rows and values.shape[1] > 1 and values.dtype.kind == "f":
            return None if _are_embeddings(values) else ClassOutput(position, values.shape[1])
    return None


def _are_embeddings(values: NDArray[Any]) -> bool:
    rows = values.astype(np.float64)
    if not np.isfinite(rows).all():
        return False
    unit = np.abs(np.linalg.norm(rows, axis=1) - 1.0) < _UNIT_TOLERANCE
    probabilities = (rows >= 0).all(axis=1) & (np.abs(rows.sum(axis=1) - 1.0) < _UNIT_TOLERANCE)
    return bool(unit.all() and not probabilities.all())
