"""The writers of INT8 graphs: onnxruntime's quantizers, given our selection, ranges and types.

They are called below `quantize_static` and `quantize_dynamic`, which load, infer and save a model several times
over. Both take a prepared model, whose weights may be references, and use it up.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import onnx
from onnxruntime.quantization import QuantType, base_quantizer, onnx_quantizer, qdq_quantizer, quant_utils
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import QuantizationMode, add_infer_metadata

from app.contracts.operators import MATRIX_PRODUCTS
from worker.graph import order
from worker.graph.integer_types import IntegerTypes
from worker.graph.selection import Selection
from worker.graph.weights import Reader
from worker.onnx_files import array

_ACTIVATION_TYPES = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}


def write_qdq(
    model: onnx.ModelProto,
    selection: Selection,
    ranges: TensorsData,
    types: IntegerTypes,
    *,
    per_channel: bool,
    overrides: Mapping[str, list[dict[str, Any]]] | None = None,
    read: Reader = array,
) -> onnx.ModelProto:
    """`model` with the nodes of `selection` between QuantizeLinear and DequantizeLinear.

    `ranges` covers the activations of `selection`, those of `same_range` included. `overrides` are onnxruntime's
    `TensorQuantOverrides`. `read` gives the values of a weight to be rounded.
    """
    add_infer_metadata(model)  # types are declared already; without this mark the writer infers them through files
    chosen = set(selection.nodes)
    quantizer = QDQQuantizer(
        model,
        per_channel,
        types.reduce_range,
        QuantType.QInt8,
        _ACTIVATION_TYPES[types.activation],
        ranges,
        chosen,
        [],
        {node.op_type for node in model.graph.node if node.name in chosen},
        # The kernels of MatMul and Gemm write FP32 at no cost, and what reads it often wants it.
        {"OpTypesToExcludeOutputQuantization": sorted(MATRIX_PRODUCTS), "TensorQuantOverrides": dict(overrides or {})},
    )
    with _quiet(), _reading_by(read):
        quantizer.quantize_model()
    written: onnx.ModelProto = quantizer.model.model
    order.sort(written.graph)
    return written


def write_dynamic(
    model: onnx.ModelProto, selection: Selection, types: IntegerTypes, *, per_channel: bool
) -> onnx.ModelProto:
    """`model` with the MatMuls of `selection` on S8 weights and U8 activations, whose scale is found at each run."""
    add_infer_metadata(model)
    quantizer = ONNXQuantizer(
        model,
        per_channel,
        types.reduce_range,
        QuantizationMode.IntegerOps,
        True,
        QuantType.QInt8,
        QuantType.QUInt8,
        None,
        set(selection.nodes),
        [],
        {"MatMul", "Gather"},
        {"MatMulConstBOnly": True},
    )
    # A quantizer constructed as dynamic splits Gemms, which we did, and then copies and reloads the model for that.
    quantizer.static = False
    with _quiet(), _reading_by(array):
        quantizer.quantize_model()
    written: onnx.ModelProto = quantizer.model.model
    order.sort(written.graph)
    return written


@contextmanager
def _reading_by(read: Reader) -> Iterator[None]:
    """The writers read weights by one function, which takes no external ones: `read` stands in for it."""
    modules = (base_quantizer, onnx_quantizer, qdq_quantizer, quant_utils)
    before = quant_utils.tensor_proto_to_array
    for module in modules:
        module.tensor_proto_to_array = read
    try:
        yield
    finally:
        for module in modules:
            module.tensor_proto_to_array = before


@contextmanager
def _quiet() -> Iterator[None]:
    """The writers advise on the root logger; what matters of it is in our notes."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
