"""Samples → what a model is fed: batches of a dataset, or values made up where there is none."""

import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines.engine import NUMPY_TYPES, LoadedModel, TensorSpec
from app.errors import DatasetMismatch, Invalid, JobFailed

Feeds = dict[str, NDArray[Any]]
Indices = NDArray[np.int64]

# A batch large enough to hide the cost of a call, small enough that its activations stay in reach of the caches.
_LARGEST_BATCH = 32
_BATCH_INPUT_BYTES = 4 * 2**20

# Extents tried for a dynamic axis, other than the batch's, when nothing else tells what the model takes.
_MADE_UP_EXTENTS = (16, 64, 224, 1)


@dataclass(frozen=True)
class Batch:
    """`feeds` holds `len(indices)` samples, then copies of the last one where the model's batch is fixed."""

    feeds: Feeds
    indices: Indices

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def rows(self) -> int:
        """Rows of each array of `feeds`, the copies included."""
        return len(next(iter(self.feeds.values()))) if self.feeds else len(self)


class Feeder:
    """Feeds samples to one model. Arrays of the dataset that are no input of the model are ignored."""

    def __init__(self, inputs: Sequence[TensorSpec], arrays: Mapping[str, NDArray[Any]]) -> None:
        self._arrays = {spec.name: _array_for(spec, arrays) for spec in inputs}
        self._files = [file for array in self._arrays.values() if (file := _mapped_file(array)) is not None]
        self.fixed_batch = _fixed_batch(inputs)

    @property
    def natural_batch(self) -> int:
        """Samples in a batch when the caller has no wish of its own."""
        if self.fixed_batch is not None:
            return self.fixed_batch
        sample_bytes = sum(array[:1].nbytes for array in self._arrays.values())
        return max(1, min(_LARGEST_BATCH, _BATCH_INPUT_BYTES // max(1, sample_bytes)))

    def batches(self, indices: Indices, batch: int | None = None) -> Iterator[Batch]:
        """The samples at `indices`, in that order, `batch` at a time (the natural size when None)."""
        size = self.fixed_batch or batch or self.natural_batch
        for start in range(0, len(indices), size):
            chosen = indices[start : start + size]
            yield Batch(self._feeds(chosen), chosen)

    def batch_count(self, samples: int, batch: int | None = None) -> int:
        return -(-samples // (self.fixed_batch or batch or self.natural_batch))

    def _feeds(self, chosen: Indices) -> Feeds:
        if self.fixed_batch is not None and len(chosen) < self.fixed_batch:
            chosen = np.concatenate([chosen, np.repeat(chosen[-1:], self.fixed_batch - len(chosen))])
        feeds = {name: np.ascontiguousarray(array[chosen]) for name, array in self._arrays.items()}
        for file in self._files:
            # Pages of a mapped dataset count as this process's memory until they are given back.
            file.madvise(mmap.MADV_DONTNEED)
        return feeds


def _mapped_file(array: NDArray[Any]) -> mmap.mmap | None:
    """The mapping that the values of `array` lie in, where they lie in a file."""
    holder: Any = array
    while holder is not None and not isinstance(holder, mmap.mmap):
        holder = getattr(holder, "base", None)
    return holder if hasattr(mmap, "MADV_DONTNEED") else None


def _array_for(spec: TensorSpec, arrays: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    if spec.name not in arrays:
        raise DatasetMismatch(
            f"the model's input '{spec.name}' has no array of that name in the dataset, which has {', '.join(arrays)}"
        )
    array = arrays[spec.name]
    if array.ndim != len(spec.shape) or array.dtype != NUMPY_TYPES[spec.datatype]:
        raise DatasetMismatch(
            f"array '{spec.name}' is {array.dtype} of rank {array.ndim};"
            f" the model's input is {spec.datatype} of rank {len(spec.shape)}"
        )
    return array


def _fixed_batch(inputs: Sequence[TensorSpec]) -> int | None:
    fixed = {spec.shape[0] for spec in inputs if spec.shape and spec.shape[0] > 0}
    if len(fixed) > 1:
        raise JobFailed(f"the model's inputs have different fixed batch sizes {sorted(fixed)}; it needs one")
    return fixed.pop() if fixed else None


def made_up(model: LoadedModel, *, seed: int) -> Feeds:
    """One request that `model` runs: zeros for integers, normal values for floats, dynamic axes short.

    Raises `JobFailed` when it runs none that we can think of.
    """
    refusal = "it has no input"
    for extent in _MADE_UP_EXTENTS:
        feeds = {spec.name: _made_up_array(spec, extent, seed) for spec in model.inputs}
        try:
            answers = model.run(feeds)
        except Invalid as error:
            refusal = error.detail
            continue
        # Convolutions of an input that is too small may leave nothing of it, and no error.
        if all(answer.size for answer in answers):
            return feeds
        refusal = "its answer to them is empty"
    raise JobFailed(
        "without a dataset the variant is checked on made-up inputs, and the model refuses all that were tried"
        f" ({refusal}); name a dataset"
    )


def _made_up_array(spec: TensorSpec, extent: int, seed: int) -> NDArray[Any]:
    shape = tuple(dim if dim > 0 else (1 if axis == 0 else extent) for axis, dim in enumerate(spec.shape))
    if spec.datatype == "BYTES":
        return np.full(shape, b"", dtype=np.object_)
    dtype = NUMPY_TYPES[spec.datatype]
    if dtype.kind == "f":
        return np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    return np.zeros(shape, dtype)
