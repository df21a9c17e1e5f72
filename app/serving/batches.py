"""Requests joined along their first axis, padded where they may be, and the outputs of a batch split again."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from app.engines import TensorSpec
from app.engines.engine import Array
from app.errors import OctetError
from app.serving.padding import Padding

#: Requests of equal signatures may be joined.
Signature = tuple[object, ...]


class NotOneRowEach(OctetError):
    """An output's first axis is not the batch: nobody can say which rows of it belong to whom."""


class Work:
    """What one request has computed.

    Attributes:
        feeds: The inputs by name.
        outputs: Names of the outputs wanted, None for all of the model's.
        priority: As Triton has it: 1 is the highest, 0 leaves it to the server.
        timeout_us: The answer is of use only if it comes within so many microseconds.
        rows: The length of the first axis; 1 where inputs disagree about it or have none, and for an empty one.
        elements: The elements of all inputs together.
    """

    __slots__ = ("elements", "feeds", "outputs", "priority", "rows", "timeout_us")

    def __init__(
        self,
        feeds: Mapping[str, Array],
        outputs: tuple[str, ...] | None = None,
        priority: int = 0,
        timeout_us: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        """`size`: the rows and elements, where the caller knows them."""
        self.feeds = feeds
        self.outputs = outputs
        self.priority = priority
        self.timeout_us = timeout_us
        self.rows, self.elements = size or size_of([array.shape for array in feeds.values()])

    def signature(self, padding: Padding | None = None) -> Signature | None:
        """What must be equal for two requests to be joined; None when this one cannot be joined with any.

        With `padding`, lengths of one bucket are equal.
        """
        if padding is not None and padding.length(self.feeds) is None:
            padding = None
        inputs: list[object] = []
        for name in sorted(self.feeds):
            array = self.feeds[name]
            # An empty request is computed alone: some models refuse it, and no other request may hide that.
            if not array.ndim or not array.shape[0] or array.shape[0] != self.rows:
                return None
            shape = array.shape if padding is None else padding.bucketed(name, array.shape)
            inputs.append((name, array.dtype.char, shape[1:]))
        return (self.outputs, *inputs) if inputs else None


def size_of(shapes: Sequence[tuple[int, ...]]) -> tuple[int, int]:
    """The rows and the elements of inputs of these shapes, as `Work` has them."""
    lengths = {shape[0] if shape else 1 for shape in shapes}
    return max(1, lengths.pop()) if len(lengths) == 1 else 1, sum(map(math.prod, shapes))


def may_be_joined(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> bool:
    """Whether every input and output has a first axis of any length, as a batch needs."""
    return all(spec.shape and spec.shape[0] < 0 for spec in (*inputs, *outputs))


def joined(works: Sequence[Work]) -> Mapping[str, Array]:
    """The feeds of all of `works`, one below the other in their order; they have equal signatures.

    Those that are shorter than the longest get zeros behind them. A single one's are passed on as they are, without a
    copy.
    """
    if len(works) == 1:
        return works[0].feeds
    return {name: _stacked([work.feeds[name] for work in works]) for name in works[0].feeds}


def _stacked(arrays: Sequence[Array]) -> Array:
    shapes = [array.shape[1:] for array in arrays]
    if len(set(shapes)) == 1:
        return np.concatenate(arrays)
    stacked = np.zeros((sum(map(len, arrays)), *map(max, zip(*shapes, strict=True))), arrays[0].dtype)
    start = 0
    for array in arrays:
        stacked[(slice(start, start + len(array)), *map(slice, array.shape[1:]))] = array
        start += len(array)
    return stacked


def split(arrays: Sequence[Array], rows: Sequence[int]) -> list[list[Array]]:
    """For each request, of so many `rows`, its part of each of `arrays`: views, in the order in which they were joined.

    Raises `NotOneRowEach` unless each array has as many rows as all requests together.
    """
    if len(rows) == 1:
        return [list(arrays)]
    total = sum(rows)
    for array in arrays:
        if not array.ndim or array.shape[0] != total:
            raise NotOneRowEach(f"an output of shape {list(array.shape)} came of a batch of {total} rows")
    parts = []
    start = 0
    for count in rows:
        parts.append([array[start : start + count] for array in arrays])
        start += count
    return parts
