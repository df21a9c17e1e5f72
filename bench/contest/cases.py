"""What is asked of every server: a model with inputs, and the answers of the engine itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from app import engines

Array = NDArray[Any]

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "models"

#: Requests that differ, sent in turn.
SAMPLES = 16
#: Rows of the datasets that variants are made with.
_ROWS = 512


@dataclass(frozen=True)
class Source:
    """A model to be uploaded under `name`, and what of it is served. `lengths`: cut sequences to so many tokens."""

    name: str
    title: str
    model: Path
    dataset: Path | None
    variant: str
    lengths: tuple[int, ...] = ()

    def rows(self) -> dict[str, Array]:
        """The first samples of the dataset; noise without one."""
        if self.dataset is None:
            return {"x": np.random.default_rng(0).standard_normal((_ROWS, 64), np.float32)}
        with np.load(self.dataset) as arrays:
            return {name: arrays[name][:_ROWS] for name in arrays.files}


@dataclass(frozen=True)
class Case:
    """Single requests to one model.

    `samples`: inputs with a leading dimension of 1; `expected`: the first output of each.
    """

    title: str
    model: str
    variant: str
    artifact: Path
    output: str
    samples: tuple[Mapping[str, Array], ...]
    expected: tuple[Array, ...]


def sources(models: Path, scratch: Path) -> list[Source]:
    """The MLP, and those of `models` that are there: a MobileNetV2 and MiniLM; else the example that ships."""
    found = [Source("mlp", "MLP 64→64→10, FP32", mlp(scratch / "mlp.onnx"), None, "original")]
    convolutional, language = models / "cifar10_mobilenetv2.onnx", models / "minilm.onnx"
    if convolutional.exists():
        found.append(Source("mobilenetv2", "MobileNetV2 INT8", convolutional, models / "cifar10_2000.npz", "int8"))
    if language.exists():
        found.append(Source("minilm", "MiniLM INT8", language, models / "stsb_dev.npz", "int8", lengths=(32, 128)))
    if len(found) == 1:
        examples = ROOT / "examples"
        found.append(
            Source("resnet20", "ResNet-20 INT8", examples / "resnet20.onnx", examples / "cifar10_512.npz", "int8")
        )
    return found


def cases(source: Source, artifact: Path) -> list[Case]:
    """One, or one for each length."""
    model = engines.get("onnxruntime").load(artifact, intra_op_threads=1)
    rows = source.rows()
    found = []
    for length in source.lengths or (None,):
        samples = tuple(
            {spec.name: _of_length(rows[spec.name][i : i + 1], length) for spec in model.inputs} for i in range(SAMPLES)
        )
        title = source.title if length is None else f"{source.title}, {length} tokens"
        expected = tuple(model.run(sample)[0] for sample in samples)
        found.append(Case(title, source.name, source.variant, artifact, model.outputs[0].name, samples, expected))
    return found


def _of_length(tokens: Array, length: int | None) -> Array:
    """Exactly so many tokens: sentences are repeated until they fill them, so that none is padding."""
    if length is None:
        return np.ascontiguousarray(tokens)
    used = max(1, int(np.count_nonzero(tokens)))
    return np.ascontiguousarray(np.resize(tokens[:, :used], (1, length)))


def mlp(path: Path, hidden: int = 64) -> Path:
    """64 → hidden → 10 with a ReLU between; with 64, so little to compute that all time is the server's."""
    random = np.random.default_rng(0)
    shapes = {"w1": (64, hidden), "b1": (hidden,), "w2": (hidden, 10), "b2": (10,)}
    weights = [
        numpy_helper.from_array((random.standard_normal(shape) / 8).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "w2", "b2"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path
