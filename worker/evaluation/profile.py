"""Where the time of a request goes, by operator: what makes a variant slower than its original."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort

from app.engines.onnxruntime import with_custom_operators
from worker.samples import Feeds

_RUNS = 20
_WARM_UP_RUNS = 2
_MENTIONED = 3

# Integer kernels by the operator whose work they do.
_FAMILIES = {
    "ConvInteger": "Conv",
    "DynamicQuantizeMatMul": "MatMul",
    "MatMulInteger": "MatMul",
    "MatMulInteger16": "MatMul",
    "MatMulIntegerToFloat": "MatMul",
    "MatMulNBits": "MatMul",
    "NhwcMaxPool": "MaxPool",
    "QAttention": "Attention",
    "QGemm": "Gemm",
}
_PREFIXES = ("QLinear", "Fused", "Nhwc")

_KERNEL_TIME = "_kernel_time"
_GIVEN_BY_RUNTIME = re.compile(r"(_token_\d+|_nchwc)+$")


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
    original: Path, variant: Path, requests: Sequence[Feeds], folder: Path, *, intra_op_threads: int
) -> list[OperatorTime]:
    """What each kind of operator takes in either model, the one that costs the variant most first.

    Profiling itself takes time: the sums are more than a request's latency, their differences are what counts.
    """
    left, right = (_times(path, requests, folder, intra_op_threads) for path in (original, variant))
    found = [OperatorTime(name, left[name], right[name]) for name in sorted({*left, *right})]
    return sorted(found, key=lambda one: -one.more_ms)


def in_words(times: Sequence[OperatorTime]) -> str:
    """The operators that cost most more than before."""
    worst = [one for one in times if one.more_ms > 0.0][:_MENTIONED]
    return ", ".join(f"{one.operator} +{one.more_ms:.3f} ms" for one in worst)


def node_times(
    model: Path, graph: onnx.GraphProto, requests: Sequence[Feeds], folder: Path, *, intra_op_threads: int
) -> dict[str, float]:
    """Milliseconds of one request by node of the FP32 `graph` that `model` was made of; what fits to none is left out.

    Kernels are named by the runtime after the node, or the tensor, that they begin or end with.
    """
    of_tensor = {name: node.name for node in graph.node for name in node.output if name}
    names = {node.name for node in graph.node}
    spent: Counter[str] = Counter()
    for kernel in _kernels(model, requests, folder, intra_op_threads):
        name = _GIVEN_BY_RUNTIME.sub("", kernel["name"].removesuffix(_KERNEL_TIME))
        node = name if name in names else of_tensor.get(name)
        if node is not None:
            spent[node] += kernel["dur"] / 1e3 / _RUNS
    return dict(spent)


def _times(path: Path, requests: Sequence[Feeds], folder: Path, intra_op_threads: int) -> Counter[str]:
    spent: Counter[str] = Counter()
    for kernel in _kernels(path, requests, folder, intra_op_threads):
        spent[_family(kernel["args"]["op_name"])] += kernel["dur"] / 1e3 / _RUNS
    return spent


def _kernels(path: Path, requests: Sequence[Feeds], folder: Path, intra_op_threads: int) -> list[dict[str, Any]]:
    """The events of all kernels of `_RUNS` runs, durations in microseconds."""
    options = with_custom_operators(ort.SessionOptions())
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = 1
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for number in range(_WARM_UP_RUNS + _RUNS):
        session.run(None, requests[number % len(requests)])
    written = Path(session.end_profiling())
    events = json.loads(written.read_text())
    written.unlink()
    kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith(_KERNEL_TIME)]
    each = len(kernels) // (_WARM_UP_RUNS + _RUNS)
    return kernels[each * _WARM_UP_RUNS :]


def _family(operator: str) -> str:
    if operator in _FAMILIES:
        return _FAMILIES[operator]
    return next((operator.removeprefix(prefix) for prefix in _PREFIXES if operator.startswith(prefix)), operator)
