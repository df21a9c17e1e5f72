"""An upload → the FP32 graph that is quantized: newer opset, constants folded, batch norms folded, types known."""

from pathlib import Path

import onnx
import onnxruntime as ort

from app.contracts.operators import QUANTIZED_OPERATORS
from app.engines.onnxruntime import REFUSALS, first_line, with_custom_operators
from app.errors import JobFailed, NotQuantizable
from worker import onnx_files
from worker.graph import gemm, interface, opset, pooling

FILE_NAME = "prepared.onnx"

# Above this, the runtime writes weights beside the optimized graph, and they are never all in memory. Not below, though
# it could: a graph that it finds nothing to optimize in is written in another form then, and artifacts would change.
_EXTERNAL_ABOVE_BYTES = 2**30
_WEIGHTS = "prepared.weights"


def prepare(source: Path, folder: Path, *, external_above: int = _EXTERNAL_ABOVE_BYTES) -> Path:
    """Write the prepared form of the model at `source` into `folder`, and return its path.

    It computes what the upload computes, from the same inputs to the same outputs, and every tensor between them
    has a declared type. The runtime's own basic optimizations do the folding, so that what can be loaded can be
    prepared, whatever its shapes and domains. Raises `JobFailed` where the opset can be neither used nor converted.
    """
    upload = onnx_files.load(source, weights=False)
    original = interface.of(upload)
    is_large = onnx_files.size_bytes(source, upload) > external_above
    upgraded = _upgraded(upload, source, folder)
    del upload
    optimized = folder / "optimized.onnx"
    _optimize(upgraded, optimized, weights=_WEIGHTS if is_large else None)

    model = onnx_files.load(optimized, weights=False)
    for used in (optimized, *({upgraded} - {source})):
        used.unlink()
    gemm.normalize(model.graph)
    drop_unused_initializers(model)
    name_nodes(model.graph)
    interface.trim_domains(model)
    interface.restore(model, original)
    prepared = folder / FILE_NAME
    _save_typed(model, prepared)
    return prepared


def read_interface(source: Path) -> onnx.ModelProto:
    """The interface of the upload at `source`.

    Raises `NotQuantizable` for an upload that is integer already: its float tensors are not the model's own.
    """
    model = onnx_files.load(source, weights=False)
    if any(node.op_type in QUANTIZED_OPERATORS for graph in onnx_files.graphs(model) for node in graph.node):
        raise NotQuantizable("the upload is quantized already; upload the FP32 model it was made from")
    return interface.of(model)


def _upgraded(upload: onnx.ModelProto, source: Path, folder: Path) -> Path:
    """A file with the `upload` in an opset that can be quantized; `source` itself when it is one already."""
    had_defaults = interface.drop_overridable_inputs(upload)
    converted = opset.at_least(upload, opset.QUANTIZABLE)
    if converted is upload and not had_defaults:
        return source
    upgraded = folder / "upgraded.onnx"
    onnx_files.save_beside(converted, upgraded)
    return upgraded


def _optimize(source: Path, target: Path, *, weights: str | None) -> None:
    options = with_custom_operators(ort.SessionOptions())
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 4
    if weights is not None:
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", weights)
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    _session(source, options)


def _session(path: Path, options: ort.SessionOptions) -> ort.InferenceSession:
    # It runs nothing: kernels need no copy of their weights in an order of their own.
    options.add_session_config_entry("session.disable_prepacking", "1")
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except REFUSALS as error:
        raise JobFailed(f"onnxruntime failed to load the model for quantization: {first_line(error)}") from error


def _save_typed(model: onnx.ModelProto, path: Path) -> None:
    """Write `model` to `path` with the type of every tensor between its inputs and outputs.

    The runtime is asked, by making each an output for once: its inference knows custom domains, and needs no shapes.
    """
    known = {argument.name for argument in (*model.graph.input, *model.graph.output)}
    names = [name for node in model.graph.node for name in node.output if name and name not in known]
    outputs = len(model.graph.output)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    onnx_files.save_beside(model, path)
    del model.graph.output[outputs:]

    options = with_custom_operators(ort.SessionOptions())
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    found = {argument.name: argument for argument in _session(path, options).get_outputs()}
    del model.graph.value_info[:]
    for name in names:
        element = _ELEMENTS.get(found[name].type)
        if element is not None:
            # The runtime says [] for a scalar and for an unknown rank alike, so that [] declares no shape.
            shape = found[name].shape or None
            model.graph.value_info.append(onnx.helper.make_tensor_value_info(name, element, shape))
    pooling.normalize(model)
    drop_unused_initializers(model)
    onnx_files.save_beside(model, path)


_ELEMENTS = {
    "tensor(float)": onnx.TensorProto.FLOAT,
    "tensor(float16)": onnx.TensorProto.FLOAT16,
    "tensor(bfloat16)": onnx.TensorProto.BFLOAT16,
    "tensor(double)": onnx.TensorProto.DOUBLE,
    "tensor(bool)": onnx.TensorProto.BOOL,
    "tensor(string)": onnx.TensorProto.STRING,
    **{f"tensor({sign}int{bits})": getattr(onnx.TensorProto, f"{sign.upper()}INT{bits}")
       for sign in ("", "u") for bits in (8, 16, 32, 64)},
}  # fmt: skip


def name_nodes(graph: onnx.GraphProto) -> None:
    """Give every node of `graph` a name that no other has: writers address nodes by it."""
    taken: set[str] = set()
    for position, node in enumerate(graph.node):
        name = node.name or f"{node.op_type}_{position}"
        while name in taken:
            name = f"{name}_{position}"
        node.name = name
        taken.add(name)


def drop_unused_initializers(model: onnx.ModelProto) -> None:
    """Remove initializers of the main graph that nothing reads any more."""
    read = {argument.name for argument in model.graph.output}
    for graph in onnx_files.graphs(model):
        read |= {argument.name for argument in graph.output}
        read.update(name for node in graph.node for name in node.input)
    for position in reversed(range(len(model.graph.initializer))):
        if model.graph.initializer[position].name not in read:
            del model.graph.initializer[position]
