"""Which nodes are better left in FP32, by the damage that their integers were seen to do."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import onnx

from app.contracts.figures import LayerFigures
from app.contracts.operators import COMPUTING
from worker.calibration.ranges import Ranges
from worker.graph.selection import Selection, select_static
from worker.repair.design import Design


def without(
    design: Design, model: onnx.ModelProto, nodes: Iterable[str], ranges: Callable[[Sequence[str]], Ranges]
) -> Design:
    """`design` with `nodes` in FP32 as well. `model` is its graph, `ranges` finds those of tensors that have none."""
    excluded = design.excluded | frozenset(nodes)
    selection = select_static(model, excluded)
    missing = [name for name in selection.activations if name not in design.ranges]
    chosen = frozenset(selection.nodes)
    return replace(
        design,
        selection=selection,
        excluded=excluded,
        ranges={**design.ranges, **(ranges(missing) if missing else {})},
        # What is not rounded makes no error to be taken back.
        errors={node: mean for node, mean in design.errors.items() if node in chosen},
    )


def tail(model: onnx.ModelProto, selection: Selection) -> list[str]:
    """The selected nodes behind which nothing computes: where a detector, say, joins coordinates and scores."""
    chosen = frozenset(selection.nodes)
    leads_on: set[str] = set()
    found = []
    for node in reversed(model.graph.node):
        computes = node.name in chosen and node.op_type in COMPUTING
        if computes or any(name in leads_on for name in node.output):
            leads_on.update(node.input)
        elif node.name in chosen:
            found.append(node.name)
    return found[::-1]


def by_damage(model: onnx.ModelProto, selection: Selection, layers: Sequence[LayerFigures]) -> list[str]:
    """The computing nodes of `selection`, the most harmful first: by how much noisier than its inputs each is.

    `layers` are measured against the FP32 graph `model`, by node name. Nodes that were not measured pass on the noise
    of their inputs.
    """
    chosen = frozenset(selection.nodes)
    measured = {layer.name: _noise(layer.sqnr_db) for layer in layers}
    noise: dict[str, float] = {}
    added: dict[str, float] = {}
    for node in model.graph.node:
        before = max((noise.get(name, 0.0) for name in node.input), default=0.0)
        after = measured.get(node.name, before)
        noise.update((name, after) for name in node.output)
        if node.name in chosen and node.op_type in COMPUTING and node.name in measured:
            added[node.name] = after - before
    return [name for name, more in sorted(added.items(), key=lambda item: -item[1]) if more > 0.0]


def _noise(sqnr_db: float | None) -> float:
    return 0.0 if sqnr_db is None else 10.0 ** (-sqnr_db / 10.0)
