"""Models for tests of evaluation, which are functions of their inputs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines import TensorSpec

Array = NDArray[Any]


class FakeModel:
    """Answers `function(x)`; counts its runs and remembers the sizes of the batches."""

    def __init__(
        self, function: Callable[[Array], Sequence[Array]], outputs: Sequence[TensorSpec] | None = None
    ) -> None:
        self.inputs = (TensorSpec("x", "FP32", (-1, 4)),)
        self.outputs = tuple(outputs or (TensorSpec("y", "FP32", (-1, 4)),))
        self.batches: list[int] = []
        self._function = function

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
        self.batches.append(len(feeds["x"]))
        return [np.asarray(values) for values in self._function(feeds["x"])]
