"""Who reads a tensor: rewriting one is safe only where every reader is known."""

from collections import defaultdict

import onnx

from worker import onnx_files


class Readers:
    """The nodes of a main graph by what they read. Outputs and subgraphs are readers that cannot be rewritten."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self._nodes: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        self._fixed = {output.name for output in graph.output}
        for node in graph.node:
            for name in node.input:
                self._nodes[name].append(node)
        for subgraph in onnx_files.graphs_below(graph):
            self._fixed.update(name for node in subgraph.node for name in node.input)
            self._fixed.update(output.name for output in subgraph.output)

    def all_of(self, name: str) -> list[onnx.NodeProto]:
        """The nodes that read `name`; empty also where a graph output or a subgraph does."""
        return [] if name in self._fixed else self._nodes[name]

    def nodes_of(self, name: str) -> list[onnx.NodeProto]:
        """The nodes of the main graph that read `name`, whatever else does."""
        return self._nodes[name]

    def sole(self, name: str) -> onnx.NodeProto | None:
        """The one node that reads `name`, once; None where there is another reader or none."""
        found = self.all_of(name)
        return found[0] if len(found) == 1 else None
