"""SmoothQuant's alpha, searched for each MatMul input by itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from app.engines import Engine
from worker import inner_tensors
from worker.graph.constants import Constants
from worker.graph.smooth import Group, divisors, input_reach
from worker.graph.weights import plain_scales, rounded
from worker.samples import Feeder, Indices

ALPHAS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97)

# A division that hides in a LayerNormalization is free; one that does not must take away so much of the noise.
_WORTH = {True: 0.02, False: 0.2}

_ROWS = 256
_OUTPUTS = 512


def best_alphas(
    model: onnx.ModelProto,
    groups: Sequence[Group],
    largest: Mapping[str, NDArray[np.float64]],
    rows: Mapping[str, NDArray[np.float32]],
    largest_integer: int,
) -> dict[str, float]:
    """By tensor, the alpha of least error in the products that read it; without those it would not help.

    `rows` are some of what the tensors take, `(rows, channels)`; `largest` their largest absolute values `(channels,)`.
    """
    constants = Constants(model.graph)
    found = {}
    for group in groups:
        if group.tensor not in rows or group.tensor not in largest:
            continue
        weights = [constants[node.input[1]] for node in group.products]
        # Outputs are sampled: a vocabulary's worth of them tells no more.
        columns = np.concatenate([weight[:, :: max(1, weight.shape[1] // _OUTPUTS)] for weight in weights], axis=1)
        exact = rows[group.tensor] @ columns
        plain = _noise(rows[group.tensor], columns, exact, largest_integer)
        reach = input_reach(weights)
        noises = []
        for alpha in ALPHAS:
            divisor = divisors(largest[group.tensor], reach, alpha)
            noises.append(_noise(rows[group.tensor] / divisor, columns * divisor[:, None], exact, largest_integer))
        best = int(np.argmin(noises))
        if noises[best] < plain * (1.0 - _WORTH[group.norm is not None]):
            found[group.tensor] = ALPHAS[best]
    return found


def _noise(
    rows: NDArray[np.float32], columns: NDArray[np.float32], exact: NDArray[np.float32], largest_integer: int
) -> float:
    """Squared error of the product of rounded `rows` and `columns`."""
    low, high = min(float(rows.min()), 0.0), max(float(rows.max()), 0.0)
    scale = np.float32((high - low) / 255) or np.float32(1.0)
    by_output = np.ascontiguousarray(columns.T)
    weights = rounded(by_output, plain_scales(by_output, largest_integer), largest_integer)
    return float(np.square(np.rint(rows / scale) * scale @ weights.T - exact).sum())


def sampled_rows(
    model: Path,
    tensors: Sequence[str],
    arrays: Mapping[str, NDArray[Any]],
    indices: Indices,
    *,
    engine: Engine,
    threads: int,
) -> dict[str, NDArray[np.float32]]:
    """Up to 256 rows `(rows, channels)` of each of `tensors`, drawn evenly from the samples at `indices`."""
    loaded = inner_tensors.load_exposed(model, tensors, engine=engine, threads=threads)
    feeder = Feeder(loaded.inputs, arrays)
    batches = list(feeder.batches(indices))
    kept: dict[str, list[NDArray[np.float32]]] = {name: [] for name in tensors}
    random = np.random.default_rng(0)
    for batch in batches:
        for name, values in zip(tensors, loaded.run(batch.feeds), strict=True):
            rows = values.reshape(-1, values.shape[-1])
            wanted = min(len(rows), -(-_ROWS // len(batches)))
            kept[name].append(rows[np.sort(random.permutation(len(rows))[:wanted])])
    return {name: np.concatenate(parts) for name, parts in kept.items() if sum(len(part) for part in parts)}
