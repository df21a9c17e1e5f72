"""One use of one operator, as a graph of one node."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[Any]

OLDEST, NEWEST = 11, 21


@dataclass(frozen=True)
class Case:
    """An operator, its inputs in order (None where an optional one is left out) and attributes.

    `constant` are the places of inputs that real graphs hold as initializers. The form is ONNX's of the opsets from
    `since` to `until`; `outputs` is how many the node has. `label` tells cases of one operator apart. A case that
    `is_extra` combines attributes that other cases combine in pairs: only the exhaustive test takes it.
    """

    operator: str
    inputs: Sequence[Array | None]
    attributes: dict[str, Any] = field(default_factory=dict)
    constant: frozenset[int] = frozenset()
    since: int = OLDEST
    until: int = NEWEST
    outputs: int = 1
    label: str = ""
    is_extra: bool = False

    @property
    def opsets(self) -> list[int]:
        """The first and last that have this form, and those between at which the operator's definition changed."""
        domain, _, name = self.operator.rpartition("::")
        if domain:
            return [NEWEST]
        versions = {schema.since_version for schema in onnx.defs.get_all_schemas_with_history() if schema.name == name}
        first = max(self.since, min(versions))
        return sorted({first, self.until} | {version for version in versions if first < version < self.until})

    def model(self, opset: int, *, constant: Iterable[int] | None = None) -> onnx.ModelProto:
        """The graph, in which the inputs at the places `constant` are initializers; names are `x0`, `x1`…, `y0`…"""
        places = self.constant if constant is None else frozenset(constant)
        domain, _, name = self.operator.rpartition("::")
        names = [f"x{place}" if values is not None else "" for place, values in enumerate(self.inputs)]
        results = [f"y{place}" for place in range(self.outputs)]
        node = helper.make_node(name, names, results, "the/node.1", domain=domain, **self.attributes)
        given = {place: values for place, values in enumerate(self.inputs) if values is not None}
        graph = helper.make_graph(
            [node],
            "case",
            [_argument(f"x{place}", values) for place, values in given.items() if place not in places],
            [onnx.ValueInfoProto(name=result) for result in results],
            [numpy_helper.from_array(values, f"x{place}") for place, values in given.items() if place in places],
        )
        imports = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
        made: onnx.ModelProto = helper.make_model(graph, opset_imports=imports, ir_version=10)
        return made

    def divisions(self) -> list[frozenset[int]]:
        """Divide the inputs into initializers, whose places are returned, and others: as real graphs do, none, all."""
        return [self.constant, frozenset(), frozenset(range(len(self.inputs)))]

    def feeds(self, *, constant: Iterable[int] | None = None) -> dict[str, Array]:
        places = self.constant if constant is None else frozenset(constant)
        return {
            f"x{place}": values
            for place, values in enumerate(self.inputs)
            if values is not None and place not in places
        }

    def __str__(self) -> str:
        return f"{self.operator}{'-' if self.label else ''}{self.label}"


def _argument(name: str, values: Array) -> onnx.ValueInfoProto:
    """Of a known rank, and of unknown extents."""
    element = helper.np_dtype_to_tensor_dtype(values.dtype)
    made: onnx.ValueInfoProto = helper.make_tensor_value_info(name, element, [None] * values.ndim)
    return made


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> NDArray[np.float32]:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape) * scale, dtype=np.float32)


def positive(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.abs(normal(*shape, seed=seed)) + np.float32(0.1)


def whole(*values: Any, dtype: Any = np.int64) -> Array:
    """Integers: `whole(1, 2)` of shape (2,), `whole([1, 2])` of shape (1, 2), `whole()` of shape (0,)."""
    return np.array(values, dtype)


def scalar(value: Any, dtype: Any = np.int64) -> Array:
    return np.array(value, dtype)
