"""Running a model on made-up inputs: to have it warm, and to see whether it can be run at all."""

import numpy as np

from app.engines.engine import NUMPY_TYPES, Array, LoadedModel, TensorSpec
from app.errors import Invalid, TooMuchMemory


def warm_up(model: LoadedModel) -> None:
    """Run once on zeros, so that the first client does not pay for lazy allocation.

    A model may refuse made-up inputs (shapes that must agree, say): it is served all the same. Raises `TooMuchMemory`
    where even inputs as small as the model takes them are too much.
    """
    try:
        model.run({spec.name: zeros(spec) for spec in model.inputs})
    except TooMuchMemory:
        raise
    except Invalid:
        return


def zeros(spec: TensorSpec) -> Array:
    """An array that fits `spec`, each dynamic axis one long; empty strings for BYTES."""
    shape = tuple(1 if axis < 0 else axis for axis in spec.shape)
    if spec.datatype == "BYTES":
        return np.full(shape, b"", dtype=np.object_)
    return np.zeros(shape, dtype=NUMPY_TYPES[spec.datatype])
