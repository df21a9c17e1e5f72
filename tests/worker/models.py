"""Small graphs made by code, with weights from a fixed seed, and the files of a job around them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from app import engines
from app.engines.cpu import Cpu, this_cpu
from worker import methods
from worker.methods import CalibrationSamples, Made, Progress, Task

Shape = Sequence[int | str | None]

ENGINE = engines.get("onnxruntime")

VNNI = Cpu(model="test", architecture="x86_64", cores=1, vnni=True)
NO_VNNI = Cpu(model="test", architecture="x86_64", cores=1, vnni=False)
ARM = Cpu(model="test", architecture="aarch64", cores=1, vnni=False)
#: What answers are compared on has to be made for the CPU that they are computed on.
HERE = this_cpu()


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Shape | tuple[int, Shape]],
    outputs: Mapping[str, Shape],
    weights: Mapping[str, NDArray[Any]] | None = None,
    *,
    opset: int = 17,
    ir_version: int = 8,
) -> onnx.ModelProto:
    """A model; inputs are FLOAT unless given as (element type, shape)."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [_argument(name, shape) for name, shape in inputs.items()],
        [_argument(name, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(values, name) for name, values in (weights or {}).items()],
    )
    made: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version
    )
    return made


def _argument(name: str, shape: Any) -> onnx.ValueInfoProto:
    element = TensorProto.FLOAT
    if isinstance(shape, tuple):
        element, shape = shape
    made: onnx.ValueInfoProto = helper.make_tensor_value_info(name, element, shape)
    return made


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def classifier(batch: int | str = "batch", *, opset: int = 17) -> onnx.ModelProto:
    """Conv + BatchNormalization + Relu, twice, with a sum in between, a mean over the image and a Gemm to 5 classes.

    Input `x` (batch, 3, 8, 8), output `scores` (batch, 5).
    """
    weights = {
        "w1": normal(8, 3, 3, 3, seed=1, scale=0.3),
        "w2": normal(8, 8, 3, 3, seed=2, scale=0.15),
        "fc": normal(5, 8, seed=3),
        "fb": normal(5, seed=4),
    }
    for number in (1, 2):
        weights |= {
            f"gamma{number}": 0.5 + normal(8, seed=10 + number) ** 2,
            f"beta{number}": normal(8, seed=20 + number, scale=0.1),
            f"mean{number}": normal(8, seed=30 + number, scale=0.1),
            f"var{number}": 0.5 + normal(8, seed=40 + number) ** 2,
        }
    nodes = []
    for number, (source, target) in enumerate((("x", "r1"), ("r1", "r2")), start=1):
        norm = [f"{kind}{number}" for kind in ("gamma", "beta", "mean", "var")]
        nodes += [
            helper.make_node("Conv", [source, f"w{number}"], [f"c{number}"], f"conv{number}", pads=[1] * 4),
            helper.make_node("BatchNormalization", [f"c{number}", *norm], [f"n{number}"], f"norm{number}"),
            helper.make_node("Relu", [f"n{number}"], [target], f"relu{number}"),
        ]
    nodes += [
        helper.make_node("Add", ["r1", "r2"], ["sum"], "add"),
        helper.make_node("GlobalAveragePool", ["sum"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "fc", "fb"], ["scores"], "gemm", transB=1),
    ]
    return model(nodes, {"x": [batch, 3, 8, 8]}, {"scores": [batch, 5]}, weights, opset=opset)


def token_encoder() -> onnx.ModelProto:
    """Token ids and a mask, both INT64 (batch, seq), → `embedding` (batch, 16), each row of unit length."""
    weights: dict[str, NDArray[Any]] = {
        "table": normal(300, 16, seed=1),
        "w1": normal(16, 32, seed=2, scale=0.25),
        "w2": normal(32, 16, seed=3, scale=0.25),
        "last": np.array([-1], np.int64),
        "one": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"], "lookup"),
        helper.make_node("MatMul", ["e", "w1"], ["h"], "up"),
        helper.make_node("Relu", ["h"], ["hr"], "relu"),
        helper.make_node("MatMul", ["hr", "w2"], ["o"], "down"),
        helper.make_node("Cast", ["mask"], ["m"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["m", "last"], ["m3"], "unsqueeze"),
        helper.make_node("Mul", ["o", "m3"], ["masked"], "mul"),
        helper.make_node("ReduceSum", ["masked", "one"], ["pooled"], "sum", keepdims=0),
        helper.make_node("LpNormalization", ["pooled"], ["embedding"], "unit", axis=1, p=2),
    ]
    tokens = (TensorProto.INT64, ["batch", "seq"])
    return model(nodes, {"ids": tokens, "mask": tokens}, {"embedding": ["batch", 16]}, weights)


def token_arrays(samples: int, length: int = 6) -> dict[str, NDArray[np.int64]]:
    random = np.random.default_rng(5)
    mask = (np.arange(length) < random.integers(1, length + 1, (samples, 1))).astype(np.int64)
    return {"ids": random.integers(0, 300, (samples, length)) * mask, "mask": mask}


def write(proto: onnx.ModelProto, folder: Path, name: str = "original.onnx") -> Path:
    path = folder / name
    path.write_bytes(proto.SerializeToString())
    return path


def make(
    method: str,
    source: Path,
    arrays: Mapping[str, NDArray[Any]] | None = None,
    *,
    cpu: Cpu = HERE,
    calibrate: int = 16,
    labels: NDArray[np.int64] | None = None,
    point: tuple[str, ...] | None = None,
    progress: Progress = lambda stage, share, detail=None: None,
    **options: Any,
) -> Made:
    """`method` on the model at `source`, made beside it; the first `calibrate` samples of `arrays` calibrate.

    All of them may be searched and trained on.
    """
    samples = None
    if arrays is not None:
        every = np.arange(len(next(iter(arrays.values()))))
        samples = CalibrationSamples(arrays, every[:calibrate], development=every, labels=labels)
    task = Task(source, source.parent, options, ENGINE, cpu, samples, progress, point=point)
    return methods.find(method)(task)
