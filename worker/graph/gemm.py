"""Gemm with a constant weight, in the one form that integer kernels and quantizers treat alike."""

import numpy as np
import onnx
from onnx import numpy_helper

from worker.onnx_files import array
from worker.operators import DEFAULT_DOMAINS


def normalize(graph: onnx.GraphProto) -> None:
    """Rewrite each Gemm of constant B (and constant or absent C) to alpha = beta = 1, B (K, N), C (N,).

    onnxruntime's writers drop a beta other than 1 and quantize a broadcast C wrongly, and a transposed B would
    put the channels of one weight on different axes in different nodes. Gemms of another form stay as they are:
    `is_normal` tells.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Gemm" and node.domain in DEFAULT_DOMAINS:
            _normalize(node, graph, constants)


def is_normal(node: onnx.NodeProto) -> bool:
    """Whether a Gemm has the form that `normalize` makes, as far as attributes tell."""
    return all(_attribute(node, name, default) == default for name, default in _DEFAULTS.items())


_DEFAULTS: dict[str, float] = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}


def _attribute(node: onnx.NodeProto, name: str, default: float) -> float:
    for attribute in node.attribute:
        if attribute.name == name:
            return float(onnx.helper.get_attribute_value(attribute))
    return default


def _normalize(node: onnx.NodeProto, graph: onnx.GraphProto, constants: dict[str, onnx.TensorProto]) -> None:
    weight = constants.get(node.input[1])
    has_bias = len(node.input) > 2 and bool(node.input[2])
    bias = constants.get(node.input[2]) if has_bias else None
    if weight is None or (has_bias and bias is None) or _attribute(node, "transA", 0):
        return
    alpha, beta = np.float32(_attribute(node, "alpha", 1.0)), np.float32(_attribute(node, "beta", 1.0))
    matrix = array(weight)
    if matrix.dtype != np.float32:
        return
    matrix = matrix.T if _attribute(node, "transB", 0) else matrix
    row = None if bias is None else _as_row(array(bias), matrix.shape[1])
    if has_bias and row is None:
        return
    if not is_normal(node):
        node.input[1] = _add(graph, constants, f"{node.output[0]}_weight", np.ascontiguousarray(matrix * alpha))
    if row is not None and (beta != 1 or bias is None or list(bias.dims) != [matrix.shape[1]]):
        node.input[2] = _add(graph, constants, f"{node.output[0]}_bias", row * beta)
    del node.attribute[:]


def _as_row(bias: np.ndarray, channels: int) -> np.ndarray | None:
    """`bias` as (channels,), or None when it differs from row to row."""
    if bias.ndim == 2 and bias.shape[0] != 1:
        return None
    return np.ascontiguousarray(np.broadcast_to(bias.reshape(-1), (channels,)))


def _add(graph: onnx.GraphProto, constants: dict[str, onnx.TensorProto], name: str, values: np.ndarray) -> str:
    while name in constants:
        name += "_"
    constants[name] = numpy_helper.from_array(values, name)
    graph.initializer.append(constants[name])
    return name


def split(graph: onnx.GraphProto) -> None:
    """Rewrite each Gemm in normal form, constant B, to a MatMul and an Add, which dynamic quantization needs."""
    constants = {tensor.name for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type != "Gemm" or not is_normal(node) or node.input[1] not in constants:
            nodes.append(node)
            continue
        has_bias = len(node.input) > 2 and bool(node.input[2])
        product = f"{node.output[0]}_product" if has_bias else node.output[0]
        nodes.append(onnx.helper.make_node("MatMul", node.input[:2], [product], f"{node.name}_product"))
        if has_bias:
            nodes.append(onnx.helper.make_node("Add", [product, node.input[2]], node.output, node.name))
            graph.value_info.append(onnx.helper.make_tensor_value_info(product, onnx.TensorProto.FLOAT, None))
    del graph.node[:]
    graph.node.extend(nodes)
