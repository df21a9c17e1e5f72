"""The rungs of the ladder: what each repair makes of a design. `ladder` tries them in the order given here."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from app.contracts.operators import COMPUTING
from app.contracts.options import RangeMethod
from worker import onnx_files
from worker.calibration.ranges import ActivationRange, Ranges, find_range, find_ranges
from worker.calibration.statistics import Statistics
from worker.graph import equalize, smooth
from worker.graph.selection import select_static
from worker.graph.weights import largest_integer
from worker.repair.alphas import best_alphas
from worker.repair.design import Design
from worker.repair.exclusions import tail, without
from worker.repair.ladder import Proposal, Rung

# A multiplication before every MatMul is not for nothing.
_SMOOTHING_WORTH = 0.1

# Nodes are left in FP32, which costs speed, only where the rest of the ladder left this much noise, and only if that
# takes away so much of it.
_EXCLUDE_BELOW_DB = 20.0
_EXCLUSION_WORTH = 0.2

#: What is said of a node that is no integer.
LEFT_IN_FP32 = "left in FP32"

#: Statistics of tensors of an FP32 graph: (what pass this is, graph, tensors, tensor → axis of its channels).
Calibrate = Callable[[str, Path, Sequence[str], Mapping[str, int]], Statistics]


@dataclass(frozen=True)
class Rungs:
    """The repairs of one job. `folder` takes rewritten graphs, `judged` are feeds to look for damage with."""

    folder: Path
    calibrate: Calibrate
    damage: Callable[[Design, Path], list[str]]
    mean_errors: Callable[[Design], dict[str, NDArray[np.float32]]]
    rows: Callable[[Path, Sequence[str]], dict[str, NDArray[np.float32]]]

    def all(self, known: Statistics, wish: RangeMethod, *, may_exclude: bool) -> list[Rung[Design]]:
        """The ladder; `known` are the statistics of the activations before any repair."""
        rungs = [
            Rung("equalization", self.equalized),
            Rung("smoothing", self.smoothed, worth=_SMOOTHING_WORTH),
            Rung("weight scales", self.searched),
            Rung("bias correction", self.corrected),
        ]
        if may_exclude:
            rungs.append(Rung("exclusion", self.excluded, _EXCLUDE_BELOW_DB, _EXCLUSION_WORTH))
        if wish == "auto":
            rungs.insert(0, Rung("activation ranges", lambda design, _: self.ranged(design, known)))
        return rungs

    def ranged(self, design: Design, known: Statistics) -> Iterator[Proposal[Design]]:
        """Ranges of least error in place of minimum to maximum."""
        found = {name: find_range(known.tensors[name], "auto", design.types.levels) for name in design.ranges}
        clipped = sum(choice.method != "minmax" for choice in found.values())
        if clipped:
            ranges = {name: choice.range for name, choice in found.items()}
            narrower = {name: choice.method for name, choice in found.items() if choice.method != "minmax"}
            yield Proposal(
                replace(design, ranges=ranges, range_method="auto").repaired(_ranged_nodes(design, narrower)),
                f"{clipped} of {len(found)} activation ranges narrower than minimum to maximum",
            )

    def equalized(self, design: Design, _: Path) -> Iterator[Proposal[Design]]:
        model = onnx_files.load(design.model, weights=False)
        found = equalize.chains(model, frozenset(design.selection.nodes))
        changed = equalize.equalize(model, found, {name: of.largest for name, of in design.channels.items()})
        if changed:
            rewritten = self._rewritten(design, model, "equalized", changed)
            nodes = {node.name for chain in found if chain.tensor in changed for node in (chain.first, chain.second)}
            done = dict.fromkeys(sorted(nodes), "channels equalized")
            yield Proposal(
                rewritten.repaired(done), f"channels of {len(changed)} activation(s) between convolutions equalized"
            )

    def smoothed(self, design: Design, _: Path) -> Iterator[Proposal[Design]]:
        model = onnx_files.load(design.model, weights=False)
        found = smooth.groups(model, frozenset(design.selection.nodes))
        largest = {name: of.largest for name, of in design.channels.items()}
        rows = self.rows(design.model, [group.tensor for group in found]) if found else {}
        alphas = best_alphas(model, found, largest, rows, largest_integer(design.types))
        if alphas:
            changed = smooth.smooth(model, found, largest, alphas)
            added = sum(name != before for name, before in changed.items())
            done = {
                node.name: f"input smoothed, alpha {alphas[group.tensor]}"
                for group in found
                if group.tensor in alphas
                for node in group.products
            }
            yield Proposal(
                self._rewritten(design, model, "smoothed", changed).repaired(done),
                f"outliers of {len(changed)} MatMul input(s) moved to the weights, alpha {min(alphas.values())} to"
                f" {max(alphas.values())}, by {added} multiplication(s)",
            )

    def searched(self, design: Design, _: Path) -> Iterator[Proposal[Design]]:
        """Weight scales of least squared error of the node's output."""
        largest = largest_integer(design.types)
        power = {name: of.mean_square for name, of in design.channels.items()}
        found = design.weights(onnx_files.load(design.model, weights=False))
        scales = {weight.name: weight.searched(largest, power.get(weight.node.input[0])) for weight in found}
        done = {weight.node.name: "weight scales searched" for weight in found}
        yield Proposal(
            replace(design, scales=scales).repaired(done), f"scales of {len(scales)} weight(s) searched for least error"
        )

    def corrected(self, design: Design, _: Path) -> Iterator[Proposal[Design]]:
        errors = self.mean_errors(design)
        done = dict.fromkeys(errors, "bias corrected")
        yield Proposal(
            replace(design, errors=errors).repaired(done),
            f"mean errors of {len(errors)} node(s) taken back by the biases",
        )

    def excluded(self, design: Design, artifact: Path) -> Iterator[Proposal[Design]]:
        """The graph's tail in FP32, or the nodes that do the most damage: one, two, four."""
        model = onnx_files.load(design.model, weights=False)
        last = tail(model, design.selection)
        if last:
            yield self._without(design, model, last, f"{len(last)} node(s) behind the last weights stay in FP32")
        worst = self.damage(design, artifact)
        for count in (1, 2, 4):
            if count > max(1, design.selection.computing // 8) or count > len(worst):
                return
            names = worst[:count]
            yield self._without(design, model, names, f"stay in FP32, doing the most damage: {', '.join(names)}")

    def _without(self, design: Design, model: onnx.ModelProto, nodes: Sequence[str], change: str) -> Proposal[Design]:
        def found(tensors: Sequence[str]) -> Ranges:
            return self._ranges(self.calibrate(f"without {' '.join(nodes)}", design.model, tensors, {}), design)

        return Proposal(without(design, model, nodes, found).repaired(dict.fromkeys(nodes, LEFT_IN_FP32)), change)

    def _rewritten(self, design: Design, model: onnx.ModelProto, label: str, changed: Iterable[str]) -> Design:
        """`design` on the rewritten graph `model`, the statistics of its `changed` tensors taken anew."""
        path = self.folder / f"{label}.onnx"
        onnx_files.save_beside(model, path)
        selection = select_static(onnx_files.load(path, weights=False), design.excluded)
        axes = input_channels(model, selection.nodes)
        tensors = [name for name in changed if name in selection.activations]
        found = self.calibrate(label, path, tensors, {name: axes[name] for name in tensors if name in axes})
        return replace(
            design,
            model=path,
            selection=selection,
            ranges={**design.ranges, **self._ranges(found, design)},
            channels={**design.channels, **found.channels},
            histograms={**design.histograms, **found.tensors},
            scales={},
            errors={},
        )

    def _ranges(self, found: Statistics, design: Design) -> dict[str, ActivationRange]:
        return find_ranges(found.tensors, design.range_method, design.types.levels)


def _ranged_nodes(design: Design, methods: Mapping[str, RangeMethod]) -> dict[str, str]:
    """What is done to the nodes whose input or output is given the range of one of `methods`, by tensor."""
    done = {}
    chosen = frozenset(design.selection.nodes)
    for node in onnx_files.load(design.model, weights=False).graph.node:
        if node.name not in chosen:
            continue
        ends = {"input": node.input[0], "output": design.selection.same_range.get(node.output[0], node.output[0])}
        words = [f"{end} range by {methods[name]}" for end, name in ends.items() if name in methods]
        if words:
            done[node.name] = ", ".join(words)
    return done


def input_channels(model: onnx.ModelProto, nodes: Sequence[str]) -> dict[str, int]:
    """The inputs of the Convs, MatMuls and Gemms among `nodes`, each with the axis of its channels."""
    chosen = frozenset(nodes)
    return {
        node.input[0]: 1 if node.op_type == "Conv" else -1
        for node in model.graph.node
        if node.name in chosen and node.op_type in COMPUTING
    }
