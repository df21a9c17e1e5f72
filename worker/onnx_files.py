"""ONNX files of any size: weights in the file, or beside it where protobuf's limit demands that.

The `onnx` library reads and writes external data too, but refuses hard links, which is how a job gets its model.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from app.errors import JobFailed
from worker import onnx_writer
from worker.operators import DEFAULT_DOMAINS

#: protobuf refuses a message of 2 GiB; a file below this also leaves room for what a graph pass adds.
INLINE_LIMIT_BYTES = 2**31 - 2**27

#: A job's own files keep more weights than this beside the graph, where they are mapped instead of read.
MAPPED_ABOVE_BYTES = 2**26

# Page-aligned tensors can be mapped by the runtime instead of copied; small ones are not worth a reference.
_ALIGNMENT = 4096
_SMALLEST_EXTERNAL_BYTES = 1024

# onnx's own key for the folder that a reference is relative to. It is for models in memory; no file has it.
_FOLDER = "basepath"

# The fields of a tensor that hold its values, and those of a reference.
_VALUES = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data")
_REFERENCE = frozenset({"dims", "data_type", "name", "external_data", "data_location"})


def load(path: Path, *, weights: bool = True) -> onnx.ModelProto:
    """Load the model at `path`.

    Args:
        path: The model file, its external data beside it.
        weights: Read external tensors into memory. Otherwise they stay references, which `array` maps.
    """
    model = onnx.load(str(path), load_external_data=False)
    for tensor in tensors(model):
        if is_external(tensor):
            tensor.external_data.add(key=_FOLDER, value=str(path.parent))
            if weights:
                _read(tensor)
    return model


def save(model: onnx.ModelProto, path: Path, *, limit: int | None = None) -> Path | None:
    """Write `model` with all of its weights, those included that are references.

    Args:
        model: The model. Where a data file is needed, the large initializers move out of it.
        path: The file to write. `model` has no references to it, nor to the data file beside it.
        limit: More bytes of weights than this need a data file; default `INLINE_LIMIT_BYTES`.

    Returns:
        The data file beside `path`, or None.
    """
    size = sum(map(stored_bytes, tensors(model)))
    if size > (INLINE_LIMIT_BYTES if limit is None else limit):
        large = list(_large_initializers(model))
        data = _move_out(large, path)
        for tensor in large:
            keep_only_reference(tensor)
    elif size > MAPPED_ABOVE_BYTES:
        for tensor in list(tensors(model))[len(model.graph.initializer) :]:
            _read(tensor)
        onnx_writer.write(model, path, is_external, payload)
        return None
    else:
        data = None
    for tensor in tensors(model):
        if _folder(tensor) is not None:
            _read(tensor)
    path.write_bytes(model.SerializeToString())
    return data


def save_beside(model: onnx.ModelProto, path: Path, *, limit: int | None = None) -> Path | None:
    """Write `model` into the folder of the files that it refers to; its references stay references.

    Args:
        model: The model. Where a data file is needed, the large initializers in memory move out of it.
        path: The file to write.
        limit: More bytes of large initializers in memory need a data file; default `MAPPED_ABOVE_BYTES`.

    Returns:
        The data file beside `path`, or None.
    """
    is_beyond_protobuf = sum(map(stored_bytes, tensors(model))) > INLINE_LIMIT_BYTES
    large = list(_large_initializers(model))
    # Of others, reading them back would not give the same message.
    read = [tensor for tensor in large if not is_external(tensor) and (is_beyond_protobuf or _is_raw(tensor))]
    is_large = sum(map(stored_bytes, read)) > (MAPPED_ABOVE_BYTES if limit is None else limit)
    data = _move_out(read, path) if is_large else None
    if is_beyond_protobuf:
        for tensor in filter(is_external, large):
            keep_only_reference(tensor)
    references = [tensor for tensor in tensors(model) if is_external(tensor)]
    for tensor in references:
        _set_folder(tensor, None)
    path.write_bytes(model.SerializeToString())
    for tensor in references:
        _set_folder(tensor, path.parent)
    return data


def _large_initializers(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """What may move out of `model`; no tensor of an attribute may: runtimes do not read it from outside."""
    for graph in graphs(model):
        for tensor in graph.initializer:
            if stored_bytes(tensor) >= _SMALLEST_EXTERNAL_BYTES and tensor.data_type != TensorProto.STRING:
                yield tensor


def _move_out(found: Iterable[TensorProto], path: Path) -> Path:
    """Move tensors into a data file beside `path`."""
    data = path.with_name(path.name + ".data")
    with data.open("wb") as file:
        for tensor in found:
            content = payload(tensor)
            file.seek(-file.tell() % _ALIGNMENT, 1)
            offset = file.tell()
            file.write(content)
            for field in _VALUES:
                tensor.ClearField(field)
            tensor.data_location = TensorProto.EXTERNAL
            del tensor.external_data[:]
            for key, value in (("location", data.name), ("offset", offset), ("length", len(content))):
                tensor.external_data.add(key=key, value=str(value))
    return data


def _is_raw(tensor: TensorProto) -> bool:
    return tensor.HasField("raw_data") and not tensor.HasField("data_location")


def keep_only_reference(tensor: TensorProto) -> None:
    """Drop what else is said of a tensor, such as its `doc_string`."""
    for field, _ in tensor.ListFields():
        if field.name not in _REFERENCE:
            tensor.ClearField(field.name)


def _read(tensor: TensorProto) -> None:
    """Put the values of `tensor` into it, where it is a reference."""
    if is_external(tensor):
        tensor.raw_data = bytes(payload(tensor))
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")


def _folder(tensor: TensorProto) -> Path | None:
    return next((Path(entry.value) for entry in tensor.external_data if entry.key == _FOLDER), None)


def _set_folder(tensor: TensorProto, folder: Path | None) -> None:
    kept = [(entry.key, entry.value) for entry in tensor.external_data if entry.key != _FOLDER]
    del tensor.external_data[:]
    for key, value in kept if folder is None else [*kept, (_FOLDER, str(folder))]:
        tensor.external_data.add(key=key, value=value)


def is_external(tensor: TensorProto) -> bool:
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def external_array(tensor: TensorProto, folder: Path) -> NDArray[Any]:
    """What `tensor` refers to in `folder`, mapped rather than read. Raises `JobFailed` when it is not there."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    shape = tuple(tensor.dims)
    source = folder / location
    if not location or Path(location).name != location or not source.is_file():
        raise JobFailed(f"external data of tensor '{tensor.name}' is not in a file beside the model")
    if 0 in shape:
        return np.empty(shape, dtype)
    try:
        return np.memmap(source, dtype, "r", int(entries.get("offset", 0)), shape)
    except ValueError as error:
        raise JobFailed(f"external data of tensor '{tensor.name}' ends before the tensor does") from error


def array(tensor: TensorProto) -> NDArray[Any]:
    """The values of `tensor`, read-only; those of a reference that `load` left are mapped."""
    if is_external(tensor):
        folder = _folder(tensor)
        if folder is None:
            raise ValueError(f"tensor '{tensor.name}' is external, and its folder is not known")
        return external_array(tensor, folder)
    values: NDArray[Any] = onnx.numpy_helper.to_array(tensor)
    return values


def payload(tensor: TensorProto) -> bytes | memoryview:
    """The values of `tensor` as `raw_data` has them."""
    if not is_external(tensor):
        return tensor.raw_data or onnx.numpy_helper.to_array(tensor).tobytes()
    values = array(tensor).reshape(-1)
    return values.view(np.uint8).data if values.size else b""


def stored_bytes(tensor: TensorProto) -> int:
    """Bytes of the values of `tensor`, wherever they lie."""
    if tensor.data_type == TensorProto.STRING:
        return sum(len(value) for value in tensor.string_data)
    elements = int(np.prod(tensor.dims, dtype=np.int64))
    return elements * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def size_bytes(path: Path, model: onnx.ModelProto | None = None) -> int:
    """Bytes of the model file and of the external files it refers to; `model` is what it holds, if that is at hand."""
    names = {
        entry.value
        for tensor in tensors(load(path, weights=False) if model is None else model)
        if is_external(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return sum(file.stat().st_size for file in (path, *(path.parent / name for name in sorted(names))))


def opset_version(model: onnx.ModelProto) -> int:
    """The version of the default operator set."""
    return max((entry.version for entry in model.opset_import if entry.domain in DEFAULT_DOMAINS), default=1)


def graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The main graph and, depth first, every subgraph under it."""
    yield from _nested(model.graph)


def _nested(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    yield from graphs_below(graph)


def graphs_below(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Every subgraph under `graph`, without `graph` itself."""
    for node in graph.node:
        yield from node_subgraphs(node)


def node_subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs in the attributes of `node`, and those under them."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield from _nested(attribute.g)
        for graph in attribute.graphs:
            yield from _nested(graph)


def tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every tensor that `model` holds: initializers, sparse ones, and attributes, in subgraphs and functions too."""
    for graph in graphs(model):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        yield from _of_nodes(graph.node)
    for function in model.functions:
        yield from _of_nodes(function.node)
        for node in function.node:
            for graph in node_subgraphs(node):
                yield from graph.initializer
                yield from _of_nodes(graph.node)


def _of_nodes(nodes: Any) -> Iterator[TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                if sparse.HasField("values"):
                    yield from (sparse.values, sparse.indices)
