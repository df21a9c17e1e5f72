"""A trivial engine in a package of its own: onnx's ReferenceEvaluator, which runs any standard operator, slowly."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.ops.op_dequantize_linear import DequantizeLinear_25

from app.engines.engine import NUMPY_TYPES, OIP_NAMES, Array, TensorSpec
from app.errors import Invalid, InvalidModel


class DequantizeLinear(DequantizeLinear_25):
    """The evaluator knows this operator from opset 19 on, and Octet writes it in older ones."""

    op_domain = ""


class ReferenceModel:
    def __init__(self, model: onnx.ModelProto) -> None:
        self._evaluator = ReferenceEvaluator(model, new_ops=[DequantizeLinear])
        weights = {tensor.name for tensor in model.graph.initializer}
        self.inputs = tuple(_spec(value) for value in model.graph.input if value.name not in weights)
        # Calibration and evaluation ask for inner tensors, whose types the model does not always tell.
        outputs = onnx.shape_inference.infer_shapes(model).graph.output
        self.outputs = tuple(_spec(value) for value in outputs if value.type.tensor_type.elem_type)

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
        decoded = {spec.name: _decoded(spec, feeds) for spec in self.inputs}
        if unknown := feeds.keys() - decoded.keys():
            raise Invalid(f"the model has no input {sorted(unknown)}")
        try:
            results = self._evaluator.run(list(outputs) if outputs is not None else None, decoded)
        except Exception as error:
            raise Invalid(f"the model refused these inputs: {error}") from error
        return [_encoded(np.asarray(array)) for array in results]


class ReferenceEngine:
    name = "reference"
    version = onnx.__version__
    can_profile = False
    saturates_pairs = False

    def load(self, path: Path, *, intra_op_threads: int, arena: bool = True, saved: bool = False) -> ReferenceModel:
        try:
            model = onnx.load(path)
            if not model.graph.node:
                raise ValueError("it has no node")
            return ReferenceModel(model)
        except Exception as error:
            raise InvalidModel(f"the reference evaluator failed to load the model: {error}") from error

    def save(self, path: Path, folder: Path) -> str:
        self.load(path, intra_op_threads=1)
        onnx.save(onnx.load(path), folder / "model.onnx")
        return "model.onnx"

    def build(self) -> str:
        return f"{self.name}-{self.version}"

    def profile(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    shape = (axis.dim_value if axis.HasField("dim_value") else -1 for axis in tensor.shape.dim)
    return TensorSpec(value.name, "BYTES" if dtype.kind in "OU" else OIP_NAMES[dtype], tuple(shape))


def _decoded(spec: TensorSpec, feeds: Mapping[str, Array]) -> Array:
    if spec.name not in feeds:
        raise Invalid(f"input '{spec.name}' is missing")
    array = feeds[spec.name]
    fits = array.ndim == len(spec.shape) and all(
        wanted in (-1, extent) for wanted, extent in zip(spec.shape, array.shape, strict=True)
    )
    if array.dtype != NUMPY_TYPES[spec.datatype] or not fits:
        raise Invalid(
            f"input '{spec.name}': expected {spec.datatype} {list(spec.shape)}, got {array.dtype} {list(array.shape)}"
        )
    if spec.datatype != "BYTES":
        return array
    try:
        return np.array([item.decode() for item in array.ravel()], dtype=np.object_).reshape(array.shape)
    except UnicodeDecodeError as error:
        raise Invalid(f"input '{spec.name}': BYTES elements must be UTF-8 text") from error


def _encoded(array: Array) -> Array:
    if array.dtype.kind not in "OU":
        return array
    return np.array([str(item).encode() for item in array.ravel()], dtype=np.object_).reshape(array.shape)
