"""Where the time of a request goes, by operator: what makes a variant slower than its original."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from app.engines import Engine
from app.engines.engine import Kernel
from worker.samples import Feeds

_RUNS = 20
_MENTIONED = 3


@dataclass(frozen=True)
class OperatorTime:
    """Milliseconds of one request that go into operators of one kind, integer kernels included."""

    operator: str
    original_ms: float
    variant_ms: float

    @property
    def more_ms(self) -> float:
        return self.variant_ms - self.original_ms

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def compare_operators(
    original: Path, variant: Path, requests: Sequence[Feeds], folder: Path, *, engine: Engine, intra_op_threads: int
) -> list[OperatorTime]:
    """What each kind of operator takes in either model, the one that costs the variant most first.

    `engine` can profile. Profiling itself takes time: the sums are more than a request's latency, their differences are
    what counts.
    """
    left, right = (
        _times(engine.profile(path, requests, folder, intra_op_threads=intra_op_threads, runs=_RUNS))
        for path in (original, variant)
    )
    found = [OperatorTime(name, left.get(name, 0), right.get(name, 0)) for name in sorted({*left, *right})]
    return sorted(found, key=lambda one: -one.more_ms)


def in_words(times: Sequence[OperatorTime]) -> str:
    """The operators that cost most more than before."""
    worst = [one for one in times if one.more_ms > 0.0][:_MENTIONED]
    return ", ".join(f"{one.operator} +{one.more_ms:.3f} ms" for one in worst)


def node_times(
    model: Path,
    graph: onnx.GraphProto,
    requests: Sequence[Feeds],
    folder: Path,
    *,
    engine: Engine,
    intra_op_threads: int,
) -> dict[str, float]:
    """Milliseconds of one request by node of the FP32 `graph` that `model` was made of; what fits to none is left out.

    `engine` can profile.
    """
    of_tensor = {name: node.name for node in graph.node for name in node.output if name}
    names = {node.name for node in graph.node}
    spent: dict[str, float] = {}
    for kernel in engine.profile(model, requests, folder, intra_op_threads=intra_op_threads, runs=_RUNS):
        node = kernel.node if kernel.node in names else of_tensor.get(kernel.node)
        if node is not None:
            spent[node] = spent.get(node, 0) + kernel.microseconds / 1e3 / _RUNS
    return spent


def _times(kernels: Sequence[Kernel]) -> dict[str, float]:
    spent: dict[str, float] = {}
    for kernel in kernels:
        spent[kernel.operator] = spent.get(kernel.operator, 0) + kernel.microseconds / 1e3 / _RUNS
    return spent
