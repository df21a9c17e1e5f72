"""Nodes in an order in which each comes after what it reads."""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

import onnx

from worker.onnx_files import node_subgraphs


def sort(graph: onnx.GraphProto) -> None:
    """Reorder the nodes of `graph`, as little as that takes; what subgraphs read from outside counts as read."""
    producer = {name: position for position, node in enumerate(graph.node) for name in node.output if name}
    waits = [{producer[name] for name in _reads(node) if name in producer} for node in graph.node]
    wanted: list[list[int]] = [[] for _ in waits]
    for position, sources in enumerate(waits):
        for source in sources:
            wanted[source].append(position)
    missing = [len(sources) for sources in waits]
    ready = [position for position, count in enumerate(missing) if count == 0]
    heapify(ready)
    order: list[int] = []
    while ready:
        position = heappop(ready)
        order.append(position)
        for reader in wanted[position]:
            missing[reader] -= 1
            if missing[reader] == 0:
                heappush(ready, reader)
    if len(order) < len(graph.node):
        raise ValueError("the graph has a cycle")
    if order != sorted(order):
        nodes = [onnx.NodeProto.FromString(graph.node[position].SerializeToString()) for position in order]
        del graph.node[:]
        graph.node.extend(nodes)


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    yield from node.input
    for graph in node_subgraphs(node):
        for inner in graph.node:
            yield from inner.input
        yield from (output.name for output in graph.output)
