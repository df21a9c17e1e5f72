"""Requests joined along their first axis, padded where they may be, and the outputs of a batch split again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from app.engines import TensorSpec
from app.engines.engine import Array
from app.errors import OctetError
from app.serving.padding import Padding

#: Requests of equal signatures may be joined.
Signature = tuple[object, ...]


class NotOneRowEach(OctetError):
    """An output's first axis is not the batch: nobody can say which rows of it belong to whom."""


@dataclass(frozen=True)
class Work:
    """What one request has computed: `outputs` are names, None for all of the model's.

    `priority` as Triton has it: 1 is the highest, 0 leaves it to the server. `timeout_us`: the answer is of use only
    if it comes within so many microseconds.
    """

    feeds: Mapping[str, Array]
    outputs: tuple[str, ...] | None = None
    priority: int = 0
    timeout_us: int | None = None

    @cached_property
    def rows(self) -> int:
        """The length of the first axis; 1 where inputs disagree about it or have none, and for an empty one."""
        lengths = {array.shape[0] if array.ndim else 1 for array in self.feeds.values()}
        return max(1, lengths.pop()) if len(lengths) == 1 else 1

    @cached_property
    def elements(self) -> int:
        return sum(array.size for array in self.feeds.values())

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
