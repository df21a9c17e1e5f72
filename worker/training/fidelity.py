"""Does the torch module compute what the engine does? Asked before a model is trained, and answered by node."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from app.engines import Engine
from app.errors import JobFailed
from worker import inner_tensors, onnx_files
from worker.training.onnx_to_torch import OnnxModule, tensors

Feeds = Mapping[str, NDArray[Any]]

#: Of the norm. FP32 kernels that sum in another order differ by some 1e-6 in a deep network.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Difference:
    """An output of a node that is not the engine's; `relative_error` as `relative_error` has it."""

    operator: str
    node: str
    tensor: str
    relative_error: float


def check_fidelity(
    model: Path,
    module: OnnxModule,
    batches: Iterable[Feeds],
    *,
    engine: Engine,
    threads: int,
    tolerance: float = TOLERANCE,
) -> float:
    """The largest relative error of any output of `module` over `batches`, what `engine` computes being true.

    Raises `JobFailed`, naming the first node that departs, when it is over `tolerance`.
    """
    session = engine.load(model, intra_op_threads=threads)
    largest = 0.0
    for feeds in batches:
        expected = session.run(feeds)
        for name, ours, theirs in zip(module.output_names, _run(module, feeds), expected, strict=True):
            error = relative_error(ours, theirs)
            if error > tolerance:
                found = first_difference(model, feeds, engine=engine, threads=threads, tolerance=tolerance)
                raise JobFailed(_sentence(engine.name, name, error, found, tolerance))
            largest = max(largest, error)
    return largest


def first_difference(
    model: Path, feeds: Feeds, *, engine: Engine, threads: int, tolerance: float = TOLERANCE
) -> Difference | None:
    """The first output of a node, in the order of the graph at `model`, that torch and `engine` compute unlike.

    Every tensor is an output for once, so that the runtime fuses nothing across them; all are in memory together.
    """
    proto = onnx_files.load(model)
    of_nodes = {name: node for node in proto.graph.node if node.op_type != "Constant" for name in node.output if name}
    session = inner_tensors.load_exposed(model, list(of_nodes), engine=engine, threads=threads)
    inner_tensors.expose(proto.graph, list(of_nodes))
    expected, computed = session.run(feeds), _run(OnnxModule(proto), feeds)
    for (name, node), ours, theirs in zip(of_nodes.items(), computed, expected, strict=True):
        error = relative_error(ours, theirs)
        if error > tolerance:
            return Difference(node.op_type, node.name, name, error)
    return None


def relative_error(computed: NDArray[Any], expected: NDArray[Any]) -> float:
    """‖computed - expected‖ / ‖expected‖ of arrays of floats; of others 0 where they are equal, else infinity.

    Infinite too where shapes or types differ, or an infinity or NaN stands in one array and not in the other.
    """
    if computed.shape != expected.shape or computed.dtype != expected.dtype:
        return float("inf")
    if expected.dtype.kind != "f":
        return 0.0 if np.array_equal(computed, expected) else float("inf")
    # Values masked by the lowest number of FP32 have squares that FP32 has not.
    left, right = computed.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(right)
    if not np.array_equal(left[~finite], right[~finite], equal_nan=True):
        return float("inf")
    distance = np.linalg.norm(left[finite] - right[finite])
    if distance == 0:
        return 0.0
    norm = np.linalg.norm(right[finite])
    # NaN, where ours are not finite, is no less than any tolerance.
    return float(np.nan_to_num(distance / norm, nan=np.inf, posinf=np.inf)) if norm > 0 else float("inf")


def _run(module: OnnxModule, feeds: Feeds) -> list[NDArray[Any]]:
    with torch.no_grad():
        return [value.numpy() for value in module(tensors(feeds))]


def _sentence(engine: str, output: str, error: float, found: Difference | None, tolerance: float) -> str:
    departs = (
        f"the model's output '{output}', computed for training, is {error:.2g} of its norm away from what"
        f" {engine} computes, and {tolerance:.2g} is allowed"
    )
    if found is None:
        return departs
    return (
        f"{departs}; the first to depart is node '{found.node}' ({found.operator}), by {found.relative_error:.2g}"
        f" in '{found.tensor}'"
    )
