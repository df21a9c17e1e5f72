"""Sequences of different length in one batch: which go together, and their answers without the padding."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from app.engines.engine import Array
from app.errors import OctetError

# Joining what is shorter saves more than its padding costs, whatever its length.
_SHORT = 8


class NotPadded(OctetError):
    """An output is not as long as the sequences it came of: nobody can say which positions are padding."""


@dataclass(frozen=True)
class Padding:
    """Which axis of each input and output is as long as the sequence: zeros behind it change no answer."""

    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]

    @classmethod
    def from_json(cls, axes: Mapping[str, Mapping[str, int]]) -> "Padding":
        return cls(tuple(axes["inputs"].items()), tuple(axes["outputs"].items()))

    @cached_property
    def input_axes(self) -> dict[str, int]:
        return dict(self.inputs)

    @cached_property
    def output_axes(self) -> dict[str, int]:
        return dict(self.outputs)

    def length(self, feeds: Mapping[str, Array]) -> int | None:
        """How long the sequences of a request are; None where its inputs disagree, and it cannot be padded."""
        lengths = {feeds[name].shape[axis] for name, axis in self.inputs if name in feeds}
        return lengths.pop() if len(lengths) == 1 else None

    def bucketed(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of input `name` as all have it that may be padded together."""
        axis = self.input_axes.get(name)
        return shape if axis is None else (*shape[:axis], bucket(shape[axis]), *shape[axis + 1 :])

    def unequal(self, requests: Sequence[Mapping[str, Array]]) -> list[int] | None:
        """The length of each of `requests`, which may be joined; None where they are all of one length."""
        lengths = [self.length(feeds) for feeds in requests]
        known = [length for length in lengths if length is not None]
        return known if len(known) == len(lengths) and len(set(known)) > 1 else None

    def cut(self, names: Sequence[str], arrays: Sequence[Array], length: int) -> list[Array]:
        """The outputs `names` of a request of that length, without what they hold of its padding: views."""
        axes = self.output_axes
        return [
            array[(slice(None),) * axes[name] + (slice(length),)] if name in axes else array
            for name, array in zip(names, arrays, strict=True)
        ]

    def check_padded(self, names: Sequence[str], arrays: Sequence[Array], length: int) -> None:
        """Raises `NotPadded` unless those outputs of a batch that have the sequence axis are of that length."""
        for name, array in zip(names, arrays, strict=True):
            axis = self.output_axes.get(name)
            if axis is not None and array.shape[axis : axis + 1] != (length,):
                raise NotPadded(f"output '{name}' of shape {list(array.shape)} came of sequences padded to {length}")


def bucket(length: int) -> int:
    """The longest length that sequences of `length` are joined with: 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, …

    So less than a quarter is added to a sequence of more than 8, and on real sentences 2 to 5%. Borders further apart
    give short sequences more to be joined with, but batches of long ones gain little, and padding costs them its share.
    """
    if length <= _SHORT:
        return _SHORT if length else 0
    step = 1 << ((length - 1).bit_length() - 3)
    return -(-length // step) * step
