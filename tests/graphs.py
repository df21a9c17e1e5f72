"""Small ONNX models, made by code."""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


def save(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


def linear_classifier(*, features: int = 16, classes: int = 4, seed: int = 0) -> onnx.ModelProto:
    """`x` FLOAT[batch, features] → `logits` FLOAT[batch, classes], by one Gemm."""
    random = np.random.default_rng(seed)
    weight = random.normal(size=(features, classes)).astype(np.float32)
    bias = random.normal(size=classes).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "weight", "bias"], ["logits"], name="classify")],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", features])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    return _model(graph)


def failing_classifier(*, features: int = 16, classes: int = 4) -> onnx.ModelProto:
    """`linear_classifier`, but that it fails whatever it is asked: its answer is given a shape that it cannot have."""
    model = linear_classifier(features=features, classes=classes)
    model.graph.node[0].output[0] = "whole"
    model.graph.initializer.append(numpy_helper.from_array(np.array([7, 7, 7]), "wrong"))
    model.graph.node.append(helper.make_node("Reshape", ["whole", "wrong"], ["logits"]))
    return model


def quantized_classifier(*, features: int = 16, classes: int = 4, seed: int = 0) -> onnx.ModelProto:
    """`linear_classifier` without its bias, as another tool might have quantized it: Q/DQ around the product."""
    random = np.random.default_rng(seed)
    weight = random.integers(-127, 128, size=(features, classes)).astype(np.int8)
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["x_integer"], name="quantize"),
            helper.make_node("DequantizeLinear", ["x_integer", "x_scale", "x_zero"], ["x_rounded"], name="dequantize"),
            helper.make_node("DequantizeLinear", ["weight", "weight_scale"], ["weight_rounded"], name="weights"),
            helper.make_node("MatMul", ["x_rounded", "weight_rounded"], ["logits"], name="classify"),
        ],
        "quantized",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", features])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])],
        [
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(np.array(0.01, np.float32), "weight_scale"),
            numpy_helper.from_array(np.array(0.03, np.float32), "x_scale"),
            numpy_helper.from_array(np.array(128, np.uint8), "x_zero"),
        ],
    )
    return _model(graph)


def convolution(*, seed: int = 0) -> onnx.ModelProto:
    """`image` FLOAT[batch, 3, 8, 8] → `logits` FLOAT[batch, 4], by Conv, Relu, GlobalAveragePool and Gemm."""
    random = np.random.default_rng(seed)
    kernel = random.normal(scale=0.3, size=(8, 3, 3, 3)).astype(np.float32)
    weight = random.normal(size=(8, 4)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "kernel"], ["features"], name="conv", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["features"], ["rectified"], name="relu"),
            helper.make_node("GlobalAveragePool", ["rectified"], ["pooled"], name="pool"),
            helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
            helper.make_node("Gemm", ["flat", "weight"], ["logits"], name="classify"),
        ],
        "convolution",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(weight, "weight")],
    )
    return _model(graph)


def deep_convolution(*, layers: int = 24, channels: int = 16, seed: int = 0) -> onnx.ModelProto:
    """`convolution` with many layers, for each step of a job to take its time."""
    random = np.random.default_rng(seed)
    nodes, weights, features, width = [], [], "image", 3
    for layer in range(layers):
        kernel = random.normal(scale=(2 / (9 * width)) ** 0.5, size=(channels, width, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"kernel{layer}"))
        nodes += [
            helper.make_node("Conv", [features, f"kernel{layer}"], [f"sum{layer}"], f"conv{layer}", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"sum{layer}"], [f"layer{layer}"], f"relu{layer}"),
        ]
        features, width = f"layer{layer}", channels
    weights.append(numpy_helper.from_array(random.normal(size=(channels, 4)).astype(np.float32), "weight"))
    nodes += [
        helper.make_node("GlobalAveragePool", [features], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "weight"], ["logits"], "classify"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])
    return _model(helper.make_graph(nodes, "deep", [image], [logits], weights))


def all_datatypes() -> onnx.ModelProto:
    """For each OIP datatype an input `in_<type>` [n] and an output `out_<type>` that repeats it."""
    types = {
        "bool": TensorProto.BOOL,
        "uint8": TensorProto.UINT8,
        "uint16": TensorProto.UINT16,
        "uint32": TensorProto.UINT32,
        "uint64": TensorProto.UINT64,
        "int8": TensorProto.INT8,
        "int16": TensorProto.INT16,
        "int32": TensorProto.INT32,
        "int64": TensorProto.INT64,
        "fp16": TensorProto.FLOAT16,
        "fp32": TensorProto.FLOAT,
        "fp64": TensorProto.DOUBLE,
        "bytes": TensorProto.STRING,
    }
    graph = helper.make_graph(
        [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in types],
        "datatypes",
        [helper.make_tensor_value_info(f"in_{name}", kind, ["n"]) for name, kind in types.items()],
        [helper.make_tensor_value_info(f"out_{name}", kind, ["n"]) for name, kind in types.items()],
    )
    return _model(graph)


def two_token_inputs(*, vocabulary: int = 50, width: int = 16, seed: int = 0) -> onnx.ModelProto:
    """`ids` and `mask` INT64[batch, length] → `embedding` FLOAT[batch, 4]: Gather, mask, mean, MatMul."""
    random = np.random.default_rng(seed)
    table = random.normal(size=(vocabulary, width)).astype(np.float32)
    weight = random.normal(size=(width, 4)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["tokens"], name="embed"),
            helper.make_node("Cast", ["mask"], ["kept"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["kept", "last"], ["kept_wide"]),
            helper.make_node("Mul", ["tokens", "kept_wide"], ["masked"]),
            helper.make_node("ReduceMean", ["masked"], ["mean"], axes=[1], keepdims=0),
            helper.make_node("MatMul", ["mean", "weight"], ["embedding"], name="project"),
        ],
        "tokens",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "length"]),
            helper.make_tensor_value_info("mask", TensorProto.INT64, ["batch", "length"]),
        ],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 4])],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(np.array([-1], dtype=np.int64), "last"),
        ],
    )
    return _model(graph)


def masked_attention(*, vocabulary: int = 50, width: int = 8, output: str = "mean", seed: int = 0) -> onnx.ModelProto:
    """`ids` and `mask` INT64[batch, length], by one layer of attention that looks at nothing masked.

    `output`: "mean" for `embedding` FLOAT[batch, width], the mean of what is not masked; "tokens" for `tokens`
    FLOAT[batch, length, width]; "attention" for `attention` FLOAT[batch, length, length]; "plain mean" for `embedding`
    that takes the mask for nothing, so that padding counts.
    """
    random = np.random.default_rng(seed)
    table = random.normal(size=(vocabulary, width)).astype(np.float32)
    names = {"mean": "embedding", "plain mean": "embedding", "tokens": "tokens", "attention": "attention"}
    shapes = {"embedding": ["batch", width], "tokens": ["batch", "length", width]} | {"attention": ["batch", *"nm"]}
    made = {
        "tokens": [],
        "attention": [],
        "plain mean": [helper.make_node("ReduceMean", ["tokens"], ["embedding"], axes=[1], keepdims=0)],
        "mean": [
            helper.make_node("Unsqueeze", ["kept", "last"], ["column"]),
            helper.make_node("Mul", ["tokens", "column"], ["unmasked"]),
            helper.make_node("ReduceSum", ["unmasked", "one"], ["sum"], keepdims=0),
            helper.make_node("ReduceSum", ["kept", "one"], ["count"], keepdims=1),
            helper.make_node("Div", ["sum", "count"], ["embedding"]),
        ],
    }
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["embedded"], name="embed"),
            helper.make_node("Cast", ["mask"], ["kept"], to=TensorProto.FLOAT),
            helper.make_node("Sub", ["kept", "unit"], ["masked"]),
            helper.make_node("Mul", ["masked", "large"], ["bias"]),
            helper.make_node("Unsqueeze", ["bias", "one"], ["bias_row"]),
            helper.make_node("Transpose", ["embedded"], ["keys"], perm=[0, 2, 1]),
            helper.make_node("MatMul", ["embedded", "keys"], ["scores"], name="scores"),
            helper.make_node("Add", ["scores", "bias_row"], ["biased"]),
            helper.make_node("Softmax", ["biased"], ["attention"], axis=-1),
            helper.make_node("MatMul", ["attention", "embedded"], ["mixed"], name="mix"),
            helper.make_node("MatMul", ["mixed", "weight"], ["tokens"], name="project"),
            *made[output],
        ],
        "attention",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "length"]),
            helper.make_tensor_value_info("mask", TensorProto.INT64, ["batch", "length"]),
        ],
        [helper.make_tensor_value_info(names[output], TensorProto.FLOAT, shapes[names[output]])],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(random.normal(size=(width, width)).astype(np.float32), "weight"),
            numpy_helper.from_array(np.array(1.0, np.float32), "unit"),
            numpy_helper.from_array(np.array(1e4, np.float32), "large"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "one"),
            numpy_helper.from_array(np.array([-1], dtype=np.int64), "last"),
        ],
    )
    return _model(graph)


def with_external_weight(location: str) -> onnx.ModelProto:
    """`linear_classifier` whose weight is said to lie in the file `location`, from its beginning."""
    model = linear_classifier()
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "weight")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    return model


def custom_operator(*, features: int = 64, classes: int = 4, seed: int = 0) -> onnx.ModelProto:
    """`x` FLOAT[batch, features] → `y` FLOAT[batch, classes], with a leaky activation between two products.

    It takes an operator that ONNX does not have, and onnxruntime-extensions does: the two signs of its input, apart.
    """
    random = np.random.default_rng(seed)
    first = (random.normal(size=(features, features)) / 8).astype(np.float32)
    second = (random.normal(size=(features, classes)) / 8).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "first"], ["before"], "before"),
            helper.make_node("NegPos", ["before"], ["negative", "positive"], "parts", domain="ai.onnx.contrib"),
            helper.make_node("Mul", ["negative", "leak"], ["leaked"], "leak"),
            helper.make_node("Add", ["positive", "leaked"], ["hidden"], "whole"),
            helper.make_node("MatMul", ["hidden", "second"], ["y"], "after"),
        ],
        "custom",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", features])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", classes])],
        [
            numpy_helper.from_array(first, "first"),
            numpy_helper.from_array(second, "second"),
            numpy_helper.from_array(np.float32(0.1), "leak"),
        ],
    )
    model = _model(graph)
    model.opset_import.append(helper.make_opsetid("ai.onnx.contrib", 1))
    return model


def beyond_the_engine() -> onnx.ModelProto:
    """Valid ONNX for which onnxruntime has no kernel: the sine of bfloat16, `x` FLOAT[n] → `y` FLOAT[n]."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["short"], to=TensorProto.BFLOAT16),
            helper.make_node("Sin", ["short"], ["sine"], name="sine"),
            helper.make_node("Cast", ["sine"], ["y"], to=TensorProto.FLOAT),
        ],
        "beyond",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


def counting_down(*, width: int = 256) -> onnx.ModelProto:
    """`turns` INT64[], `x` FLOAT[width] → `y` FLOAT[width]: so many products, so that a value says how long it runs."""
    square = np.eye(width, dtype=np.float32)
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["still"]),
            helper.make_node("MatMul", ["before", "square"], ["after"]),
        ],
        "turn",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, [width]),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, [width]),
        ],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["turns", "", "x"], ["y"], body=body)],
        "countdown",
        [
            helper.make_tensor_value_info("turns", TensorProto.INT64, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [width]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [width])],
        [numpy_helper.from_array(square, "square")],
    )
    return _model(graph)


def greedy_for_memory(*, side: int = 200_000) -> onnx.ModelProto:
    """`x` FLOAT[batch, 1] → `y` FLOAT[batch, 1], by way of a tensor of `side` × `side` floats."""
    weight = np.ones((1, side), dtype=np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "weight"], ["row"], name="row"),
            helper.make_node("Transpose", ["row"], ["column"], perm=[1, 0]),
            helper.make_node("MatMul", ["column", "row"], ["huge"], name="outer"),
            helper.make_node("ReduceMean", ["huge"], ["mean"], keepdims=1),
            helper.make_node("Add", ["mean", "x"], ["y"]),
        ],
        "greedy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(weight, "weight")],
    )
    return _model(graph)


def labelled_samples(
    *, samples: int = 128, shape: tuple[int, ...] = (16,), name: str = "x", classes: int = 4, seed: int = 1
) -> dict[str, NDArray[np.generic]]:
    """Arrays of a dataset for the models above; the labels are arbitrary."""
    random = np.random.default_rng(seed)
    return {
        name: random.normal(size=(samples, *shape)).astype(np.float32),
        "label": random.integers(0, classes, size=samples),
    }


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def integer_quotient() -> onnx.ModelProto:
    """`y = a / b` of 64-bit integers. The processor has no answer to -2^63 / -1, and onnxruntime 1.32 dies of it."""
    a, b, y = (helper.make_tensor_value_info(name, TensorProto.INT64, ["n"]) for name in "aby")
    graph = helper.make_graph([helper.make_node("Div", ["a", "b"], ["y"], "divide")], "quotient", [a, b], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
