"""In which types a layer of a quantized graph multiplies: read from the graph itself, whoever has written it."""

from collections.abc import Collection
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper

from worker.operators import LAYERS_WITHOUT_WEIGHTS

_FP32 = "fp32"

# Their weights are integers of fewer bits, packed into bytes.
_PACKED = {"MatMulNBits"}


@dataclass(frozen=True)
class Precision:
    """`weights` is None for a layer without any."""

    activations: str = _FP32
    weights: str | None = None


class Precisions:
    """Of the layers of the graph `variant`, which was made of one whose tensors are called `known`."""

    def __init__(self, variant: onnx.GraphProto, known: Collection[str]) -> None:
        self._known = known
        self._constants = {tensor.name: tensor for tensor in variant.initializer}
        self._producers = {name: node for node in variant.node for name in node.output if name}

    def of(self, operator: str, tensor: str, stand_in: str) -> Precision:
        """The layer of type `operator` in FP32 that computes `tensor`, or what was put in its place, `stand_in`."""
        region = self._region(tensor if tensor in self._producers else stand_in)
        weights = None if operator in LAYERS_WITHOUT_WEIGHTS else self._weights(region)
        return Precision(self._activations(region), weights)

    def _region(self, tensor: str) -> list[onnx.NodeProto]:
        """The nodes that stand for the layer: all behind `tensor`, back to the tensors that are known from before."""
        region, waiting, seen = [], [tensor], {tensor}
        while waiting:
            node = self._producers.get(waiting.pop())
            if node is None:
                continue
            region.append(node)
            for name in node.input:
                if name and name not in seen and name not in self._known:
                    seen.add(name)
                    waiting.append(name)
        return region

    def _weights(self, region: list[onnx.NodeProto]) -> str:
        for node in region:
            if node.op_type in _PACKED:
                return next((f"int{one.i}" for one in node.attribute if one.name == "bits"), "int4")
        types = {
            self._constants[name].data_type
            for node in region
            for name in node.input
            if name in self._constants and len(self._constants[name].dims) >= 2
        }
        if TensorProto.FLOAT16 in types:
            return "fp16"
        return next((_name(one) for one in sorted(types) if one in _INTEGERS), _FP32)

    def _activations(self, region: list[onnx.NodeProto]) -> str:
        for node in region:
            if node.op_type == "DynamicQuantizeLinear":
                return "uint8"
            if node.op_type == "DequantizeLinear" and node.input[0] not in self._constants and len(node.input) > 2:
                zero_point = self._constants.get(node.input[2])
                if zero_point is not None:
                    return _name(zero_point.data_type)
        return _FP32


_INTEGERS = {
    TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4, TensorProto.INT16, TensorProto.UINT16,
}  # fmt: skip


def _name(data_type: int) -> str:
    return str(helper.tensor_dtype_to_string(data_type)).removeprefix("TensorProto.").lower()
