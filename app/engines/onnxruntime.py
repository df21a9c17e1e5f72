"""ONNX Runtime on its CPU provider."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Before it is imported: it would keep a file in the home folder, and a thread that reports to its makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime as ort

from app import custom_operators
from app.engines.cpu import fingerprint
from app.engines.engine import Array, Kernel, TensorSpec
from app.errors import Invalid, InvalidModel, TooMuchMemory

NAME = "onnxruntime"
VERSION: str = ort.__version__

_SAVED = "model.onnx"

_DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}

# What onnxruntime raises for a graph or an input that it refuses; anything else is a defect of ours.
REFUSALS = (
    ort.capi.onnxruntime_pybind11_state.Fail,
    ort.capi.onnxruntime_pybind11_state.InvalidArgument,
    ort.capi.onnxruntime_pybind11_state.InvalidGraph,
    ort.capi.onnxruntime_pybind11_state.InvalidProtobuf,
    ort.capi.onnxruntime_pybind11_state.NotImplemented,
    ort.capi.onnxruntime_pybind11_state.RuntimeException,
    ort.capi.onnxruntime_pybind11_state.NoSuchFile,
)


_WARM_UP_RUNS = 2

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

_OUT_OF_MEMORY = ("bad_alloc", "allocate memory", "exceeds the supported maximum")


def _spec(argument: Any) -> TensorSpec:
    if argument.type not in _DATATYPES:
        raise InvalidModel(f"'{argument.name}' is of type {argument.type}; only dense tensors can be served")
    shape = tuple(dim if isinstance(dim, int) and dim >= 0 else -1 for dim in argument.shape)
    return TensorSpec(argument.name, _DATATYPES[argument.type], shape)


class OnnxRuntimeModel:
    """A session. Strings come and go as `bytes`, as the Open Inference Protocol has them."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs = tuple(_spec(argument) for argument in session.get_inputs())
        self.outputs = tuple(_spec(argument) for argument in session.get_outputs())
        self._strings = any(spec.datatype == "BYTES" for spec in (*self.inputs, *self.outputs))

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
        if self._strings:
            feeds = {name: _decoded(array) for name, array in feeds.items()}
        try:
            results: list[Array] = self._session.run(outputs, feeds)
        except REFUSALS as error:
            if any(words in str(error) for words in _OUT_OF_MEMORY):
                raise TooMuchMemory("running the model on these inputs takes more memory than there is") from error
            raise Invalid(f"the model refused these inputs: {first_line(error)}") from error
        return [_encoded(array) for array in results] if self._strings else results


class OnnxRuntimeEngine:
    """Loads sessions for serving and for measuring alike, so that what is measured is what is served."""

    name = NAME
    version = VERSION
    can_profile = True
    saturates_pairs = True

    def load(self, path: Path, *, intra_op_threads: int, arena: bool = True, saved: bool = False) -> OnnxRuntimeModel:
        options = _options(intra_op_threads)
        options.enable_cpu_mem_arena = arena
        if saved:
            # All that can be done to the graph was done before it was saved.
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        return OnnxRuntimeModel(_session(path, options))

    def save(self, path: Path, folder: Path) -> str:
        options = _options(1)
        options.optimized_model_filepath = str(folder / _SAVED)
        # Weights beside the graph are mapped; those within it are copied, and the file's own copy stays as long.
        for key, value in (("file_name", f"{_SAVED}.data"), ("min_size_in_bytes", "1024")):
            options.add_session_config_entry(f"session.optimized_model_external_initializers_{key}", value)
        _session(path, options)
        return _SAVED

    def build(self) -> str:
        # The graph is optimized for the CPU that it is loaded on.
        return f"{NAME}-{VERSION}-{fingerprint()}"

    def profile(
        self, path: Path, requests: Sequence[Mapping[str, Array]], folder: Path, *, intra_op_threads: int, runs: int
    ) -> list[Kernel]:
        options = with_custom_operators(ort.SessionOptions())
        options.intra_op_num_threads = intra_op_threads
        options.inter_op_num_threads = 1
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "profile")
        options.log_severity_level = 4
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for number in range(_WARM_UP_RUNS + runs):
            session.run(None, requests[number % len(requests)])
        written = Path(session.end_profiling())
        events = json.loads(written.read_text())
        written.unlink()
        kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith(_KERNEL_TIME)]
        each = len(kernels) // (_WARM_UP_RUNS + runs)
        return [_kernel(event) for event in kernels[each * _WARM_UP_RUNS :]]


def with_custom_operators(options: Any) -> Any:
    """The options, for a session that may run the custom operators that are allowed."""
    # Two domains may come from one library, which can be registered once.
    for library in sorted(set(custom_operators.allowed().values())):
        options.register_custom_ops_library(str(library))
    return options


def _kernel(event: Mapping[str, Any]) -> Kernel:
    name = _GIVEN_BY_RUNTIME.sub("", event["name"].removesuffix(_KERNEL_TIME))
    return Kernel(name, _family(event["args"]["op_name"]), event["dur"])


def _family(operator: str) -> str:
    if operator in _FAMILIES:
        return _FAMILIES[operator]
    return next((operator.removeprefix(prefix) for prefix in _PREFIXES if operator.startswith(prefix)), operator)


def _options(intra_op_threads: int) -> Any:
    options = with_custom_operators(ort.SessionOptions())
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = 1
    # Weights that are repacked at load are freed then; in the arena they would stay a second time.
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    # Several variants share the cores: a pool that spins after its run steals them from the others.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    return options


def _session(path: Path, options: Any) -> Any:
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except REFUSALS as error:
        raise InvalidModel(f"onnxruntime {VERSION} failed to load the model: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """The runtime's message without file paths of this server."""
    message = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return " ".join(word if "/" not in word or word.startswith("http") else "…" for word in message.split())[:400]


def _decoded(array: Array) -> Array:
    if array.dtype != np.object_:
        return array
    try:
        return np.array([item.decode() for item in array.ravel()], dtype=np.object_).reshape(array.shape)
    except UnicodeDecodeError as error:
        raise Invalid("BYTES elements of this model's inputs must be UTF-8 text") from error


def _encoded(array: Array) -> Array:
    if array.dtype.kind not in "OU":
        return array
    return np.array([str(item).encode() for item in array.ravel()], dtype=np.object_).reshape(array.shape)
