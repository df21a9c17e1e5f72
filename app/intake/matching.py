"""Whether a dataset can feed a model."""

from collections.abc import Sequence

from app.engines.engine import TensorSpec
from app.errors import DatasetMismatch
from app.intake.artifacts import ArraySpec


def check_match(inputs: Sequence[TensorSpec], arrays: Sequence[ArraySpec]) -> None:
    """Raise `DatasetMismatch`, naming the array, unless each of the model's `inputs` has one it can be fed with.

    The first axis of an array is its samples and that of an input its batch, of whatever size: samples are put
    together to fill it. Of the other axes, those that the model fixes must be equal. More arrays do no harm.
    """
    by_name = {array.name: array for array in arrays}
    for wanted in inputs:
        array = by_name.get(wanted.name)
        if array is None:
            there = ", ".join(repr(name[:80]) for name in sorted(by_name)[:16])
            raise DatasetMismatch(f"the dataset has no array for the model's input {wanted.name!r}; it has {there}")
        if array.dtype != wanted.datatype:
            raise DatasetMismatch(
                f"array {wanted.name!r} of the dataset is {array.dtype}; the model's input is {wanted.datatype}"
            )
        if len(array.shape) != len(wanted.shape):
            raise DatasetMismatch(
                f"array {wanted.name!r} of the dataset has shape {_shape(array.shape)}, {len(array.shape)} axes with"
                f" the samples first; the model's input has {len(wanted.shape)}, {_shape(wanted.shape)}"
            )
        for axis, (size, expected) in enumerate(zip(array.shape, wanted.shape, strict=True)):
            if axis > 0 and expected not in (-1, size):
                raise DatasetMismatch(
                    f"array {wanted.name!r} of the dataset has shape {_shape(array.shape)}, of size {size} on axis"
                    f" {axis}; the model's input is {_shape(wanted.shape)} and needs {expected} there"
                )


def _shape(shape: Sequence[int]) -> str:
    """As the API shows shapes, -1 for any size."""
    return str(list(shape))
