"""Integer graphs: every operator that is selected runs, and close to FP32."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.worker import models
from tests.worker.runtime import cosine, executed_operators, run


def _after_conv(*nodes: onnx.NodeProto, **weights: Any) -> onnx.ModelProto:
    """x (n, 4, 8, 8) → Conv → `nodes`, which read `c` and write `y`."""
    conv = helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1] * 4)
    return models.model(
        [conv, *nodes],
        {"x": ["n", 4, 8, 8]},
        {"y": None},
        {"w": models.normal(4, 4, 3, 3, scale=0.3), **weights},
    )


_node = helper.make_node
_int64 = np.int64
_SECOND = _node("Conv", ["x", "w"], ["r"], kernel_shape=[3, 3], dilations=[2, 2], pads=[2] * 4)

FOLLOWING = {
    "Relu": (_after_conv(_node("Relu", ["c"], ["y"])), None),
    "Clip": (_after_conv(_node("Clip", ["c", "lo", "hi"], ["y"]), lo=np.float32(0), hi=np.float32(1)), None),
    "LeakyRelu": (_after_conv(_node("LeakyRelu", ["c"], ["y"], alpha=0.1)), "QLinearLeakyRelu"),
    "Sigmoid": (_after_conv(_node("Sigmoid", ["c"], ["y"])), "QLinearSigmoid"),
    "SiLU": (
        _after_conv(_node("Sigmoid", ["c"], ["s"]), _node("Mul", ["c", "s"], ["y"])),
        "QLinearMul",
    ),
    "Add": (_after_conv(_SECOND, _node("Add", ["c", "r"], ["y"])), "QLinearAdd"),
    "Concat": (
        _after_conv(_SECOND, _node("Concat", ["c", "r"], ["y"], axis=1)),
        "QLinearConcat",
    ),
    "MaxPool": (_after_conv(_node("MaxPool", ["c"], ["y"], kernel_shape=[2, 2], strides=[2, 2])), None),
    "AveragePool": (
        _after_conv(_node("AveragePool", ["c"], ["y"], kernel_shape=[2, 2], strides=[2, 2])),
        "QLinearAveragePool",
    ),
    "GlobalAveragePool": (_after_conv(_node("GlobalAveragePool", ["c"], ["y"])), "QLinearGlobalAveragePool"),
    "Flatten": (_after_conv(_node("Flatten", ["c"], ["y"])), None),
    "Reshape": (_after_conv(_node("Reshape", ["c", "to"], ["y"]), to=np.array([0, -1], _int64)), None),
    "Transpose": (_after_conv(_node("Transpose", ["c"], ["y"], perm=[0, 2, 3, 1])), None),
    "Unsqueeze": (_after_conv(_node("Unsqueeze", ["c", "ax"], ["y"]), ax=np.array([1], _int64)), None),
    "Squeeze": (
        _after_conv(
            _node("GlobalAveragePool", ["c"], ["p"]), _node("Squeeze", ["p", "ax"], ["y"]), ax=np.array([2, 3], _int64)
        ),
        None,
    ),
    "Slice": (
        _after_conv(
            _node("Slice", ["c", "from", "to", "ax"], ["y"]),
            **{"from": np.array([1], _int64), "to": np.array([3], _int64), "ax": np.array([1], _int64)},
        ),
        None,
    ),
    "Split": (
        _after_conv(_node("Split", ["c"], ["a", "b"], axis=1), _node("Add", ["a", "b"], ["y"])),
        "QLinearAdd",
    ),
    "Resize": (
        _after_conv(_node("Resize", ["c", "", "by"], ["y"], mode="nearest"), by=np.array([1, 1, 2, 2], np.float32)),
        None,
    ),
}


@pytest.mark.parametrize("name", FOLLOWING)
def test_an_operator_after_a_convolution_goes_on_in_integers(tmp_path: Path, name: str) -> None:
    proto, kernel = FOLLOWING[name]
    for position, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type}{position}"
    source = models.write(proto, tmp_path)
    x = models.normal(32, 4, 8, 8)
    made = models.make("int8", source, {"x": x}, calibrate=32)
    expected, got = run(source, {"x": x})[0], run(made.artifact, {"x": x})[0]
    assert got.shape == expected.shape
    assert cosine(expected, got) > 0.999
    operators = executed_operators(made.artifact)
    assert operators["QLinearConv"] == sum(node.op_type == "Conv" for node in proto.graph.node)
    if kernel is not None:
        assert operators[kernel] >= 1
    # Quantized once at the input, and back once at the output: nothing in between was computed in FP32.
    assert operators["QuantizeLinear"] == 1
    assert operators["DequantizeLinear"] == 1


@pytest.mark.parametrize("method", ["int8", "dynamic"])
@pytest.mark.parametrize("transposed", [False, True])
def test_each_output_channel_has_a_scale_of_its_own(tmp_path: Path, method: str, transposed: bool) -> None:
    # Channels of very different size: one scale for all, or scales along the other axis, would lose the small ones.
    weight = models.normal(16, 8) * np.geomspace(0.001, 10, 8, dtype=np.float32)
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], "gemm", transB=int(transposed)),
        helper.make_node("MatMul", ["x", "m"], ["k"], "product"),
        helper.make_node("Concat", ["h", "k"], ["y"], "both", axis=1),
    ]
    weights = {"w": np.ascontiguousarray(weight.T) if transposed else weight, "m": weight, "b": np.zeros(8, np.float32)}
    source = models.write(models.model(nodes, {"x": ["n", 16]}, {"y": ["n", 16]}, weights), tmp_path)
    x = models.normal(64, 16, seed=7)
    made = models.make(method, source, {"x": x}, calibrate=64)
    expected, got = run(source, {"x": x})[0], run(made.artifact, {"x": x})[0]
    assert all(cosine(expected[:, channel], got[:, channel]) > 0.999 for channel in range(16))


@pytest.mark.parametrize("method", ["int8", "dynamic"])
def test_one_scale_for_a_whole_weight_when_that_is_asked_for(tmp_path: Path, method: str) -> None:
    source = models.write(models.token_encoder(), tmp_path)
    arrays = models.token_arrays(32)
    sizes = {}
    for per_channel in (True, False):
        made = models.make(method, source, arrays, per_channel=per_channel)
        scales = [
            tensor.dims
            for tensor in onnx.load(made.artifact).graph.initializer
            if tensor.name in {"w1_scale", "w2_scale"}
        ]
        sizes[per_channel] = sorted(list(dims) for dims in scales)
    assert sizes == {True: [[16], [32]], False: [[], []]}


@pytest.mark.parametrize("activation_type", ["uint8", "int8"])
def test_both_activation_types_are_close_to_fp32(tmp_path: Path, activation_type: str) -> None:
    source = models.write(models.classifier(), tmp_path)
    x = models.normal(64, 3, 8, 8)
    made = models.make("int8", source, {"x": x}, calibrate=64, activation_type=activation_type)
    assert cosine(run(source, {"x": x})[0], run(made.artifact, {"x": x})[0]) > 0.998
    zero_point = next(t for t in onnx.load(made.artifact).graph.initializer if t.name == "x_zero_point")
    wanted = {"uint8": onnx.TensorProto.UINT8, "int8": onnx.TensorProto.INT8}
    assert zero_point.data_type == wanted[activation_type]


def test_without_vnni_weights_leave_a_bit_free(tmp_path: Path) -> None:
    source = models.write(models.classifier(), tmp_path)
    x = models.normal(32, 3, 8, 8)
    largest = {}
    for cpu in (models.VNNI, models.NO_VNNI):
        made = models.make("int8", source, {"x": x}, cpu=cpu)
        weights = [
            onnx.numpy_helper.to_array(t)
            for t in onnx.load(made.artifact).graph.initializer
            if t.data_type == onnx.TensorProto.INT8 and len(t.dims) > 1
        ]
        largest[cpu.vnni] = max(int(np.abs(weight.astype(int)).max()) for weight in weights)
    assert largest == {True: 127, False: 64}
