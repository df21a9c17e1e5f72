"""ONNX files of any size: weights in the file, or beside it where protobuf's limit demands that.

The `onnx` library reads and writes external data too, but refuses hard links, which is how a job gets its model.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from app.errors import JobFailed
from worker.operators import DEFAULT_DOMAINS

#: protobuf refuses a message of 2 GiB; a file below this also leaves room for what a graph pass adds.
INLINE_LIMIT_BYTES = 2**31 - 2**27

# Page-aligned tensors can be mapped by the runtime instead of copied; small ones are not worth a reference.
_ALIGNMENT = 4096
_SMALLEST_EXTERNAL_BYTES = 1024


def load(path: Path, *, weights: bool = True) -> onnx.ModelProto:
    """The model at `path`; without `weights`, external tensors stay references to the files beside it."""
    model = onnx.load(str(path), load_external_data=False)
    if weights:
        for tensor in tensors(model):
            if is_external(tensor):
                tensor.raw_data = external_array(tensor, path.parent).tobytes()
                tensor.ClearField("external_data")
                tensor.ClearField("data_location")
    return model


def save(model: onnx.ModelProto, path: Path, *, limit: int | None = None) -> Path | None:
    """Write `model`; returns the data file written beside it, if one was needed.

    Above `limit` bytes in memory (default `INLINE_LIMIT_BYTES`) the large initializers move out of `model` into that
    file. Tensors that are external already stay references to files beside `path`.
    """
    limit = INLINE_LIMIT_BYTES if limit is None else limit
    data = None
    if sum(stored_bytes(tensor) for tensor in tensors(model) if not is_external(tensor)) > limit:
        data = path.with_name(path.name + ".data")
        _move_out(model, data)
    path.write_bytes(model.SerializeToString())
    return data


def _move_out(model: onnx.ModelProto, data: Path) -> None:
    with data.open("wb") as file:
        # Only initializers: runtimes do not read an attribute's tensor from outside.
        for graph in graphs(model):
            for tensor in graph.initializer:
                if is_external(tensor) or tensor.data_type == TensorProto.STRING:
                    continue
                if stored_bytes(tensor) < _SMALLEST_EXTERNAL_BYTES:
                    continue
                payload = tensor.raw_data or onnx.numpy_helper.to_array(tensor).tobytes()
                file.seek(-file.tell() % _ALIGNMENT, 1)
                offset = file.tell()
                file.write(payload)
                kept = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
                kept.data_location = TensorProto.EXTERNAL
                for key, value in (("location", data.name), ("offset", offset), ("length", len(payload))):
                    kept.external_data.add(key=key, value=str(value))
                tensor.CopyFrom(kept)


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


def array(tensor: TensorProto, folder: Path | None = None) -> NDArray[Any]:
    """The values of `tensor`, read-only; `folder` is where external ones lie."""
    if is_external(tensor):
        if folder is None:
            raise ValueError(f"tensor '{tensor.name}' is external, and no folder is given")
        return external_array(tensor, folder)
    values: NDArray[Any] = onnx.numpy_helper.to_array(tensor)
    return values


def stored_bytes(tensor: TensorProto) -> int:
    """Bytes of the values of `tensor`, wherever they lie."""
    if tensor.data_type == TensorProto.STRING:
        return sum(len(value) for value in tensor.string_data)
    elements = int(np.prod(tensor.dims, dtype=np.int64))
    return elements * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def size_bytes(model: Path) -> int:
    """Bytes of the model file and of the external files it refers to."""
    proto = onnx.load(str(model), load_external_data=False)
    names = {
        entry.value
        for tensor in tensors(proto)
        if is_external(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return sum(path.stat().st_size for path in (model, *(model.parent / name for name in sorted(names))))


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
