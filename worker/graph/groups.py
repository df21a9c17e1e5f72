"""Quantizer groups: nodes that become integer, or stay in FP32, together.

A node that only goes on with integers (an Add, a Relu) belongs to the node with weights whose result it takes up: to
part them would put a QuantizeLinear and a DequantizeLinear between them, and cost more than it spares. So do nodes with
weights that read one FP32 tensor, which is quantized for them alone: the three projections of an attention.
"""

from dataclasses import dataclass

import onnx

from app.contracts.operators import COMPUTING
from worker.graph.selection import Selection


@dataclass(frozen=True)
class Group:
    """`name` is that of its first node with weights, `computing` are all of these, `nodes` its nodes in graph order."""

    name: str
    computing: tuple[str, ...]
    nodes: tuple[str, ...]


def quantizer_groups(model: onnx.ModelProto, selection: Selection) -> list[Group]:
    """The groups of a prepared `model`, in graph order; every node of `selection` that has weights is in one."""
    chosen = frozenset(selection.nodes)
    leader_of: dict[str, str] = {}
    reads_alone: dict[str, str] = {}
    of_tensor: dict[str, str] = {}
    members: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        if node.name not in chosen:
            continue
        computes = node.op_type in COMPUTING
        if not computes:
            # Of several branches, the one computed last is where the node's own work is done.
            sources = [of_tensor[name] for name in node.input if name in of_tensor]
            leader = max(sources, key=list(members).index, default=None)
            if leader is None:
                continue
        elif node.input[0] in of_tensor:
            leader = node.name
        else:
            leader = reads_alone.setdefault(node.input[0], node.name)
        leader_of[node.name] = leader
        members.setdefault(leader, []).append(node)
        if not computes or node.op_type == "Conv":
            of_tensor.update((name, leader) for name in node.output)
    return [
        Group(
            name,
            tuple(node.name for node in nodes if node.op_type in COMPUTING),
            tuple(node.name for node in nodes),
        )
        for name, nodes in members.items()
    ]
