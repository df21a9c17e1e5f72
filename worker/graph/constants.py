"""The constants of a graph, read and replaced by name."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from worker.onnx_files import array


class Constants:
    """The initializers of a main graph. References are mapped when they are read."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The values of `name`, read-only."""
        return array(self._tensors[name])

    def is_float(self, name: str) -> bool:
        return name in self._tensors and self._tensors[name].data_type == onnx.TensorProto.FLOAT

    def replace(self, name: str, values: NDArray[Any]) -> None:
        self._tensors[name].CopyFrom(numpy_helper.from_array(np.asarray(values, order="C"), name))

    def add(self, name: str, values: NDArray[Any] | np.generic) -> str:
        """A new constant under `name` or, where that is taken, one like it; returns the name it got."""
        while name in self._tensors:
            name += "_"
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        self._tensors[name] = self._graph.initializer[-1]
        return name
