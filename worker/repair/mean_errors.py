"""The mean error of each node of a design, measured on samples."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines import Engine
from worker import inner_tensors, onnx_files
from worker.graph import bias
from worker.graph.weights import largest_integer
from worker.repair.design import Design
from worker.samples import Feeder, Indices


def mean_errors(
    design: Design, arrays: Mapping[str, NDArray[Any]], indices: Indices, *, engine: Engine, threads: int
) -> dict[str, NDArray[np.float32]]:
    """By node, what its bias has to take back `(channels,)`, on the samples of `arrays` at `indices`."""
    model = onnx_files.load(design.model, weights=False)
    found = design.weights(model)
    bounds = {name: (of.low, of.high) for name, of in design.all_ranges().items()}
    nodes = bias.observe_errors(
        model, found, design.all_scales(found), largest_integer(design.types), bounds, design.types
    )
    loaded = inner_tensors.load_edited(model, design.model.parent, engine=engine, threads=threads)
    feeder = Feeder(loaded.inputs, arrays)
    totals: dict[str, NDArray[np.float64]] = {}
    for batch in feeder.batches(indices):
        for node, errors in zip(nodes, loaded.run(batch.feeds), strict=True):
            totals[node] = totals.get(node, np.zeros(len(errors))) + errors * (len(batch) / len(indices))
    return {node: total.astype(np.float32) for node, total in totals.items()}
