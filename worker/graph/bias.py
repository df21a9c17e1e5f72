"""Bias correction: the mean error that rounding makes in a node's output, taken back by its bias.

Rounded weights, and inputs clipped to their range, shift the mean of an output channel; left alone, layer adds to layer
(Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, 2019, section 4.2). The shift is
measured here rather than derived, padding and all: beside each node of the FP32 graph its rounded double computes.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from worker.graph.constants import Constants
from worker.graph.integer_types import IntegerTypes
from worker.graph.readers import Readers
from worker.graph.weights import Scales, Weight
from worker.onnx_files import opset_version

Bounds = tuple[float, float]


def observe_errors(
    model: onnx.ModelProto,
    found: Iterable[Weight],
    scales: Mapping[str, Scales],
    largest: int,
    ranges: Mapping[str, Bounds],
    types: IntegerTypes,
) -> list[str]:
    """Make mean errors the outputs of the FP32 `model`; returns the names of the nodes they belong to.

    Each output is `(channels,)`: the mean, over all that is not the channel, of what the node computes less what it
    computes of rounded inputs and weights. `scales` by weight, `ranges` by input.
    """
    graph, constants = model.graph, Constants(model.graph)
    opset = opset_version(model)
    del graph.output[:]
    observed = []
    for weight in found:
        node = weight.node
        if node.input[0] not in ranges:
            continue
        name = f"octet_error:{node.name}"
        rounded = weight.rounded(scales[weight.name], largest)
        shape = constants[weight.name].shape
        rounded = np.moveaxis(rounded.reshape(-1, *np.delete(shape, weight.axis)), 0, weight.axis)
        inputs = [
            _fake_quantized(graph, constants, node.input[0], f"{name}:input", ranges[node.input[0]], types),
            constants.add(f"{name}:weight", rounded.astype(np.float32)),
            *node.input[2:],
        ]
        double = onnx.NodeProto()
        double.CopyFrom(node)
        double.name, double.output[0] = f"{name}:double", f"{name}:double"
        del double.input[:]
        double.input.extend(inputs)
        difference = helper.make_node("Sub", [node.output[0], f"{name}:double"], [f"{name}:difference"])
        graph.node.extend([double, difference, *_mean(constants, node, f"{name}:difference", name, opset)])
        graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
        observed.append(node.name)
    return observed


def _fake_quantized(
    graph: onnx.GraphProto, constants: Constants, source: str, name: str, bounds: Bounds, types: IntegerTypes
) -> str:
    dtype = np.dtype(types.activation)
    limits = np.iinfo(dtype)
    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    scale = np.float32((high - low) / (types.levels - 1)) or np.float32(1.0)
    zero_point = np.clip(np.rint(limits.min - low / scale), limits.min, limits.max).astype(dtype)
    parameters = [constants.add(f"{name}_scale", scale), constants.add(f"{name}_zero_point", zero_point)]
    graph.node.append(helper.make_node("QuantizeLinear", [source, *parameters], [f"{name}_quantized"]))
    graph.node.append(helper.make_node("DequantizeLinear", [f"{name}_quantized", *parameters], [name]))
    return name


def _mean(constants: Constants, node: onnx.NodeProto, source: str, target: str, opset: int) -> list[onnx.NodeProto]:
    """Nodes that take the mean of `source` over all axes but its channels: the second of a Conv's, else the last."""
    rank = constants[node.input[1]].ndim
    if node.op_type != "Conv":
        rows = constants.add(f"{target}:rows", np.array([-1, constants[node.input[1]].shape[1]]))
        flat = helper.make_node("Reshape", [source, rows], [f"{source}:flat"])
        return [flat, _reduce(constants, f"{source}:flat", target, [0], opset)]
    return [_reduce(constants, source, target, [0, *range(2, rank)], opset)]


def _reduce(constants: Constants, source: str, target: str, axes: list[int], opset: int) -> onnx.NodeProto:
    # Axes became an input in opset 18.
    if opset < 18:
        return helper.make_node("ReduceMean", [source], [target], axes=axes, keepdims=0)
    return helper.make_node(
        "ReduceMean", [source, constants.add(f"{target}:axes", np.array(axes))], [target], keepdims=0
    )


def correct(model: onnx.ModelProto, errors: Mapping[str, NDArray[np.float32]]) -> None:
    """Add `errors` `(channels,)`, by node, to the biases of `model`.

    A Conv or Gemm without a bias gets one; that of a MatMul is the constant of the Add behind it, and where there is
    none, the error stays.
    """
    readers, constants = Readers(model), Constants(model.graph)
    for node in model.graph.node:
        if node.name in errors:
            _shift(node, errors[node.name], readers, constants)


def _shift(node: onnx.NodeProto, delta: NDArray[np.float32], readers: Readers, constants: Constants) -> None:
    name = f"{node.output[0]}_corrected_bias"
    place = 2
    if node.op_type == "MatMul":
        after = readers.sole(node.output[0])
        if after is None or after.op_type != "Add":
            return
        place = 1 - list(after.input).index(node.output[0])
        if not constants.is_float(after.input[place]) or constants[after.input[place]].shape != delta.shape:
            return
        node = after
    before = node.input[place] if len(node.input) > place else ""
    corrected = constants.add(name, constants[before] + delta if before else delta)
    if len(node.input) > place:
        node.input[place] = corrected
    else:
        node.input.append(corrected)
