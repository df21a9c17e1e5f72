"""The mean over all positions of an image, in the one operator that has an integer kernel."""

import onnx

from worker.graph.constants import Constants
from worker.operators import DEFAULT_DOMAINS

_IMAGE_RANK = 4


def normalize(model: onnx.ModelProto) -> None:
    """Rewrite each ReduceMean over the last two of four axes, which it keeps, to GlobalAveragePool."""
    constants = Constants(model.graph)
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in _typed(model.graph)}
    for node in model.graph.node:
        if (
            node.op_type != "ReduceMean"
            or node.domain not in DEFAULT_DOMAINS
            or ranks.get(node.input[0]) != _IMAGE_RANK
        ):
            continue
        given = {attribute.name: attribute for attribute in node.attribute}
        keeps = "keepdims" not in given or given["keepdims"].i == 1
        axes = list(given["axes"].ints) if "axes" in given else []
        if len(node.input) > 1 and node.input[1] in constants:
            axes = constants[node.input[1]].tolist()
        if keeps and sorted(axis % _IMAGE_RANK for axis in axes) == [2, 3]:
            node.CopyFrom(onnx.helper.make_node("GlobalAveragePool", [node.input[0]], node.output, node.name))


def _typed(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    return [
        value
        for value in (*graph.value_info, *graph.input)
        if value.type.tensor_type.HasField("shape") and value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    ]
