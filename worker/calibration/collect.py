"""Samples through the FP32 graph → the range of each activation."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines import ENGINES
from app.errors import JobFailed
from worker import onnx_files
from worker.calibration.observers import SCALARS, observe
from worker.calibration.ranges import ActivationRange
from worker.samples import Feeder, Indices


def collect(
    model: Path,
    tensors: Sequence[str],
    arrays: Mapping[str, NDArray[Any]],
    indices: Indices,
    *,
    threads: int,
    progress: Callable[[float], None],
) -> dict[str, ActivationRange]:
    """The range of each of `tensors` (FP32, of the model's main graph) over the samples of `arrays` at `indices`.

    `progress` is called with the share done after each batch. Memory is that of one batch. Raises `JobFailed`,
    naming the tensor, when one takes a value that is not finite.
    """
    proto = onnx_files.load(model, weights=False)
    observe(proto, tensors)
    observed = model.with_name("observed.onnx")
    observed.write_bytes(proto.SerializeToString())
    del proto
    loaded = ENGINES["onnxruntime"].load(observed, intra_op_threads=threads)
    observed.unlink()
    feeder = Feeder(loaded.inputs, arrays)

    lowest = np.full(len(tensors), np.inf)
    highest = np.full(len(tensors), -np.inf)
    batches = feeder.batch_count(len(indices))
    for done, batch in enumerate(feeder.batches(indices), start=1):
        scalars = np.array(loaded.run(batch.feeds), np.float64).reshape(SCALARS, len(tensors))
        _check_finite(scalars, tensors)
        np.minimum(lowest, scalars[0], out=lowest)
        np.maximum(highest, scalars[1], out=highest)
        progress(done / batches)
    return {name: ActivationRange(float(lowest[i]), float(highest[i])) for i, name in enumerate(tensors)}


def _check_finite(scalars: NDArray[np.float64], tensors: Sequence[str]) -> None:
    # A sum may overflow where no value is infinite.
    lowest, highest, total = scalars
    bad = np.flatnonzero(~np.isfinite(lowest) | ~np.isfinite(highest) | np.isnan(total))
    if bad.size:
        raise JobFailed(
            f"on the calibration samples, tensor '{tensors[bad[0]]}' of the model takes values that are not finite;"
            " check the samples' preprocessing, and that the original answers them with finite numbers"
        )
