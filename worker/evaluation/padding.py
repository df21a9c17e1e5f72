"""Whether zeros behind a sequence change its answer: if not, requests of different length may share a batch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto

from app.contracts.outcome import SequenceAxes
from app.engines.engine import LoadedModel
from app.errors import Invalid, JobFailed
from worker import onnx_files
from worker.evaluation.invariance import Drift
from worker.samples import Feeds

#: Input → the axis of its that is as long as the sequence.
Axes = Mapping[str, int]

# A trial is a run of the variant and one of the original for each length, and one for each length it is padded to.
_ROWS = 4
_LENGTHS = 4

_CHANGES = "padding a sequence with zeros changes its answer: sequences of different length are not batched together"
_REFUSED = "the model does not take sequences of every length: those of different length are not batched together"
_UNKNOWN = "whether padding changes answers is not known: that takes sequences of more than one position"


@dataclass(frozen=True)
class Padding:
    """`axes` is None where padding is not proved to be harmless. `note` says why, of a model that has sequences."""

    axes: SequenceAxes | None
    note: str | None = None


class _Unclear(JobFailed):
    """An output follows the length of the sequence in another way than by one axis."""


def sequence_inputs(path: Path) -> dict[str, int]:
    """The inputs of the model at `path` that have the sequence axis, and which it is; none where it has no such axis.

    It is the one dynamic dimension that inputs have besides the batch: where it has a name, all that bear the name are
    of one length, by the specification of ONNX. Where no dimension has a name, it takes the second axis of every input;
    and two names, as of the height and the width of an image, are no sequence.
    """
    graph = onnx_files.load(path, weights=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    batch = {_dynamic(value).get(0) for value in inputs} - {""}
    found: dict[str, int] = {}
    symbols = set()
    for value in inputs:
        axes = {axis: name for axis, name in _dynamic(value).items() if axis > 0 and name not in batch}
        if len(axes) > 1 or (axes and value.type.tensor_type.elem_type == TensorProto.STRING):
            return {}
        found.update((value.name, axis) for axis in axes)
        symbols |= set(axes.values())
    unnamed = symbols == {""} and (len(found) < len(inputs) or set(found.values()) != {1})
    return {} if len(symbols) != 1 or unnamed else found


def _dynamic(value: ValueInfoProto) -> dict[int, str]:
    """The axes of any length, with their names; the name of one that has none is empty."""
    dims = value.type.tensor_type.shape.dim
    return {axis: dim.dim_param for axis, dim in enumerate(dims) if not dim.HasField("dim_value") or dim.dim_value < 0}


def made_up_sequences(rows: Sequence[Feeds], inputs: Axes) -> list[Feeds]:
    """Rows that `varied` made, without what a mask would leave nothing of: integers are ones at the first position.

    In the first row they are ones throughout.
    """
    return [
        {name: _begun(values, inputs.get(name), row == 0) for name, values in one.items()}
        for row, one in enumerate(rows)
    ]


def _begun(values: NDArray[Any], axis: int | None, throughout: bool) -> NDArray[Any]:
    if axis is None or values.dtype.kind not in "iub":
        return values
    begun = values.copy()
    _cut(begun, axis, None if throughout else 1)[...] = 1
    return begun


def check_padding(original: LoadedModel, variant: LoadedModel, inputs: Axes, rows: Sequence[Feeds]) -> Padding:
    """Ask for some of `rows` at several lengths, alone and padded; the judgement is that of batch invariance.

    `rows` are single requests. What they are padded with already is cut off first.
    """
    if not inputs or any(len(_lengths(row, inputs)) != 1 for row in rows):
        return Padding(None)
    sequences = [cut for row in rows[:_ROWS] if (cut := _unpadded(row, inputs))]
    longest = max(_lengths(row, inputs).pop() for row in rows)
    trials = _Trials(original, variant, inputs)
    try:
        for sequence in sequences:
            for length in _shorter(_lengths(sequence, inputs).pop(), longest):
                if not trials.add(_shortened(sequence, inputs, length), length, _longer(length, longest)):
                    return Padding(None, _CHANGES)
    except _Unclear as unclear:
        return Padding(None, unclear.detail)
    except Invalid:
        return Padding(None, _REFUSED)
    if not trials.outputs:
        return Padding(None, _UNKNOWN)
    if not trials.drift.is_negligible:
        return Padding(None, _CHANGES)
    outputs = {name: axis for name, axis in trials.outputs.items() if axis is not None}
    return Padding(SequenceAxes(inputs=dict(inputs), outputs=outputs))


@dataclass
class _Trials:
    """`outputs`: which axis of each is as long as the sequence, as far as it was seen."""

    original: LoadedModel
    variant: LoadedModel
    inputs: Axes
    drift: Drift = field(default_factory=Drift)
    outputs: dict[str, int | None] = field(default_factory=dict)

    def add(self, sequence: Feeds, length: int, longer: Sequence[int]) -> bool:
        """False where padding `sequence` changes what must be the same. Raises `_Unclear`, or `Invalid`."""
        exact = self.original.run(sequence)
        answers = exact if self.variant is self.original else self.variant.run(sequence)
        for padded in longer:
            others = self.variant.run(_lengthened(sequence, self.inputs, padded))
            for spec, right, answer, other in zip(self.variant.outputs, exact, answers, others, strict=True):
                axis = _sequence_axis(spec.name, answer.shape, other.shape, length, padded)
                if self.outputs.setdefault(spec.name, axis) != axis:
                    raise _Unclear(_unclear(spec.name))
                kept = other if axis is None else _cut(other, axis, length)
                if not self.drift.add(right, answer, kept):
                    return False
        return True


def _sequence_axis(name: str, short: tuple[int, ...], long: tuple[int, ...], length: int, padded: int) -> int | None:
    """The axis of an output that is as long as the sequence: as seen, since graphs often name it otherwise."""
    if len(short) != len(long):
        raise _Unclear(_unclear(name))
    differing = [axis for axis, sizes in enumerate(zip(short, long, strict=True)) if len(set(sizes)) > 1]
    if not differing:
        return None
    axis = differing[0]
    if len(differing) > 1 or axis == 0 or (short[axis], long[axis]) != (length, padded):
        raise _Unclear(_unclear(name))
    return axis


def _unclear(name: str) -> str:
    return f"output '{name}' does not follow the sequence by one axis: sequences are not padded to share a batch"


def _lengths(row: Feeds, inputs: Axes) -> set[int]:
    return {row[name].shape[axis] for name, axis in inputs.items()}


def _unpadded(row: Feeds, inputs: Axes) -> Feeds | None:
    """`row` up to the last position where any input is not zero; None where there is none."""
    used = [
        np.moveaxis(row[name], axis, 0).reshape(row[name].shape[axis], -1).any(axis=1) for name, axis in inputs.items()
    ]
    positions = np.flatnonzero(np.logical_or.reduce(used))
    return _shortened(row, inputs, int(positions[-1]) + 1) if len(positions) else None


def _shorter(length: int, longest: int) -> Iterator[int]:
    """Some lengths of a sequence of `length`, all below `longest`."""
    lengths = {-(-length * part // _LENGTHS) for part in range(1, _LENGTHS + 1)}
    yield from sorted(lengths - {longest})


def _longer(length: int, longest: int) -> list[int]:
    """What to pad it to: one position more, a quarter more as in serving, and as far as the model is known to take."""
    return sorted({length + 1, min(-(-length * 5 // 4), longest), longest} - {length})


def _shortened(row: Feeds, inputs: Axes, length: int) -> Feeds:
    return row | {name: np.ascontiguousarray(_cut(row[name], axis, length)) for name, axis in inputs.items()}


def _lengthened(row: Feeds, inputs: Axes, length: int) -> Feeds:
    return row | {name: _zero_filled(row[name], axis, length) for name, axis in inputs.items()}


def _zero_filled(values: NDArray[Any], axis: int, length: int) -> NDArray[Any]:
    filled = np.zeros((*values.shape[:axis], length, *values.shape[axis + 1 :]), values.dtype)
    _cut(filled, axis, values.shape[axis])[...] = values
    return filled


def _cut(values: NDArray[Any], axis: int, length: int | None) -> NDArray[Any]:
    """A view on the first positions along `axis`."""
    cut: NDArray[Any] = values[(slice(None),) * axis + (slice(length),)]
    return cut
