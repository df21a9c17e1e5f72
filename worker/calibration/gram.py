"""XᵀX of the inputs of matrix products: how much an error of each weight matters, and together with which others."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines import Engine
from worker import inner_tensors
from worker.samples import Feeder, Indices


def gram_matrices(
    model: Path,
    tensors: Sequence[str],
    arrays: Mapping[str, NDArray[Any]],
    indices: Indices,
    *,
    engine: Engine,
    threads: int,
    progress: Callable[[float], None],
) -> dict[str, NDArray[np.float64]]:
    """By name, XᵀX `(channels, channels)` of each of `tensors` `(…, channels)`, over the samples at `indices`.

    Memory is that of one batch and of the matrices.
    """
    loaded = inner_tensors.load_exposed(model, tensors, engine=engine, threads=threads)
    feeder = Feeder(loaded.inputs, arrays)
    found: dict[str, NDArray[np.float64]] = {}
    batches = feeder.batch_count(len(indices))
    for done, batch in enumerate(feeder.batches(indices), start=1):
        for name, values in zip(tensors, loaded.run(batch.feeds), strict=True):
            rows = values.reshape(-1, values.shape[-1])
            # One product of a batch is exact enough in FP32; their sum is not.
            found[name] = found.get(name, 0.0) + (rows.T @ rows).astype(np.float64)
        progress(done / batches)
    return found
