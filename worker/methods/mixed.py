"""Mixed precision: INT8 where it pays, FP32 where it harms, as the client's budget has it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx

from app.contracts.figures import PointFigures
from app.contracts.options import MixedOptions
from app.engines import LoadedModel
from app.engines.cpu import usable_cores
from app.errors import Invalid, NotQuantizable
from worker import onnx_files
from worker.calibration.ranges import Ranges, find_ranges
from worker.graph import half
from worker.graph.groups import Group, quantizer_groups
from worker.methods.int8 import BestInt8, best_int8
from worker.methods.method import ARTIFACT, CalibrationSamples, Made, Task
from worker.repair.design import Design
from worker.repair.exclusions import without
from worker.repair.judge import Judge
from worker.repair.rungs import LEFT_IN_FP32
from worker.samples import Feeder, Feeds, Indices
from worker.search.answers import Answers
from worker.search.descent import Goal, search
from worker.search.explain import explained
from worker.search.sensitivity import Sensitivity, damages, group_times
from worker.search.trials import Kept, Trial, Trials, front

_SENSITIVITY_SAMPLES = 48
_LATENCY_REQUESTS = 16

# The part of the time that may go into looking at groups one by one.
_SENSITIVITY_SHARE = 0.5

# The part of it that the original may take for the samples that each trial is compared on.
_TRIAL_SHARE = 0.03


def make(task: Task) -> Made:
    """Raises `NotQuantizable` for a model without a node that could be integer, `Invalid` for unknown names."""
    if not task.engine.can_profile:
        raise NotQuantizable(
            f"method 'mixed' needs an engine that measures single kernels, and '{task.engine.name}' does not; 'int8'"
            " works with any"
        )
    options = MixedOptions.model_validate(task.options)
    base = best_int8(task, options, may_exclude=False)
    assert task.calibration is not None
    mixing = _Mixing(task, task.calibration, options, base)
    if task.point is not None:
        return mixing.at_point(task.point)
    return mixing.searched()


@dataclass(frozen=True)
class _Mixing:
    task: Task
    samples: CalibrationSamples
    options: MixedOptions
    base: BestInt8

    @cached_property
    def graph(self) -> onnx.ModelProto:
        return onnx_files.load(self.design.model, weights=False)

    @property
    def design(self) -> Design:
        """All that can be integer is."""
        return self.base.climbed.design

    @cached_property
    def groups(self) -> dict[str, Group]:
        return {group.name: group for group in quantizer_groups(self.graph, self.design.selection)}

    @property
    def goal(self) -> Goal:
        return Goal(self.options.max_accuracy_drop, self.options.min_speedup)

    @cached_property
    def original(self) -> LoadedModel:
        """The upload as it is served, which every trial is timed beside."""
        return self.task.engine.load(self.task.source, intra_op_threads=self.task.intra_op_threads)

    def at_point(self, nodes: Sequence[str]) -> Made:
        """What an earlier search found with `nodes` in FP32."""
        kept = self._kept(nodes, "options.point")
        data = self._write_artifact(kept)
        rows = explained([], self.groups.values(), kept, frozenset(), self.options.high_precision)
        return self._made(kept, data, {"precision": rows})

    def searched(self) -> Made:
        always = self._kept(self.options.keep_fp32, "options.keep_fp32")
        start = time.monotonic()
        requests = self._requests()
        found = self._sensitivities(requests, start + _SENSITIVITY_SHARE * self.options.max_seconds)
        trials = self._trials(requests, start + self.options.max_seconds)
        best = search(found, always, self.goal, trials)
        data = self._write_artifact(best.kept)
        points = front(trials.made.values())
        if best not in points:
            points.append(best)
        sections = {
            "precision": explained(found, self.groups.values(), best.kept, always, self.options.high_precision),
            "search": {
                "seconds": time.monotonic() - start,
                "samples": trials.answers.samples,
                "trials": len(trials.made),
                "budget_met": self.goal.is_met(best),
            },
            "points": [self._row(trial, best) for trial in points],
        }
        made = self._made(best.kept, data, sections)
        return replace(made, points=tuple(self._point(trial, best) for trial in points))

    def _kept(self, nodes: Sequence[str], option: str) -> Kept:
        """The groups of `nodes`; raises `Invalid` where the model has no such node, or none is left."""
        known = {node.name for node in self.graph.graph.node}
        unknown = [name for name in nodes if name not in known]
        if unknown:
            raise Invalid(
                f"this model has no node {', '.join(map(repr, unknown[:5]))}; its nodes are called like"
                f" {', '.join(map(repr, list(self.groups)[:3]))}",
                field=option,
            )
        kept = frozenset(name for name, group in self.groups.items() if set(nodes) & {*group.nodes})
        if len(kept) == len(self.groups):
            raise Invalid("every layer is to stay in FP32: nothing is left to be made integer", field=option)
        return kept

    def _requests(self) -> list[Feeds]:
        feeder = Feeder(self.original.inputs, self.samples.arrays)
        return [batch.feeds for batch in feeder.batches(self.samples.development[:_LATENCY_REQUESTS], 1)]

    def _sensitivities(self, requests: Sequence[Feeds], deadline: float) -> list[Sensitivity]:
        groups = list(self.groups.values())
        few = self.samples.development[:_SENSITIVITY_SAMPLES]
        judge = Judge(self.task.source, self.samples.arrays, few, engine=self.task.engine, threads=usable_cores())
        answers = self._answers(few) if self.samples.labels is not None else None

        def tell(done: int) -> None:
            share = done / len(groups)
            detail = {"text": f"sensitivity of layer {done} of {len(groups)}", "layers": done, "of": len(groups)}
            self.task.progress("search", _SENSITIVITY_SHARE * share, detail)

        def write_only(integer: Kept, path: Path) -> Path | None:
            return self._write(frozenset(self.groups) - integer, path)

        found = damages(groups, write_only, judge, answers, self.task.folder, deadline=deadline, progress=tell)
        times = group_times(
            groups,
            self.graph.graph,
            self.design.model,
            self.base.climbed.artifact,
            requests,
            self.task.folder,
            engine=self.task.engine,
            intra_op_threads=self.task.intra_op_threads,
        )
        unknown = (None, None)
        return [
            Sensitivity(group, damage, *times[group.name], change)
            for group in groups
            for damage, change in [found.get(group.name, unknown)]
        ]

    def _answers(self, indices: Indices) -> Answers:
        return Answers(
            self.task.source,
            self.samples.arrays,
            indices,
            self.samples.labels,
            engine=self.task.engine,
            threads=usable_cores(),
            seconds=self.options.max_seconds * _TRIAL_SHARE,
        )

    def _trials(self, requests: Sequence[Feeds], deadline: float) -> Trials:
        answers = self._answers(self.samples.development)
        begun = time.monotonic()

        def tell(trial: Trial) -> None:
            best = self.goal.best(trials.made.values())
            share = min(1.0, (time.monotonic() - begun) / max(deadline - begun, 1e-3))
            detail = {
                "text": f"trial {len(trials.made)} · best {best.speedup:.2f}x, accuracy {-100 * best.drop:+.2f} %",
                "trials": len(trials.made),
                "best": self._row(best, best),
            }
            self.task.progress("search", _SENSITIVITY_SHARE + (1 - _SENSITIVITY_SHARE) * share, detail)

        trials = Trials(
            write=self._write,
            answers=answers,
            original=self.original,
            requests=requests,
            folder=self.task.folder,
            engine=self.task.engine,
            intra_op_threads=self.task.intra_op_threads,
            seed=self.options.seed,
            deadline=deadline,
            tell=tell,
        )
        return trials

    def _write_artifact(self, kept: Kept) -> Path | None:
        artifact = self.task.folder / ARTIFACT
        if self.base.climbed.data is not None:
            self.base.climbed.data.unlink()
        return self._write(kept, artifact)

    def _write(self, kept: Kept, path: Path) -> Path | None:
        """The artifact with the groups `kept` in FP32."""
        data = self._design(kept).write(path)
        if self.options.high_precision == "fp16":
            model = onnx_files.load(path)
            half.halve(model, only=_weights_of(model, self._nodes(kept)))
            data = onnx_files.save(model, path)
        return data

    def _design(self, kept: Kept) -> Design:
        return without(self.design, self.graph, self._nodes(kept), self._ranges)

    def _nodes(self, kept: Kept) -> frozenset[str]:
        return frozenset(node for name in kept for node in self.groups[name].nodes)

    def _ranges(self, tensors: Sequence[str]) -> Ranges:
        """Of tensors that become integer only where others do not."""
        found = self.base.calibrator.statistics(
            f"mixed {' '.join(tensors)}", self.design.model, tensors, {}, progress=lambda share: None
        )
        return find_ranges(found.tensors, self.design.range_method, self.design.types.levels)

    def _made(self, kept: Kept, data: Path | None, sections: Mapping[str, Any]) -> Made:
        made, selection = self.base.made(), self._design(kept).selection
        facts = {**made.facts, "integer_nodes": len(selection.nodes) + len(selection.tables)}
        # What is done to a node that stays in FP32 is undone with its integers.
        repairs = {**made.repairs, **dict.fromkeys(self._nodes(kept), (LEFT_IN_FP32,))}
        artifact = self.task.folder / ARTIFACT
        return replace(made, artifact=artifact, data=data, facts=facts, sections=sections, repairs=repairs)

    def _point(self, trial: Trial, best: Trial) -> PointFigures:
        return PointFigures(
            kept=sorted(node for name in trial.kept for node in self.groups[name].computing),
            accuracy=trial.accuracy,
            agreement=trial.agreement,
            sqnr_db=trial.sqnr_db,
            latency_ms=trial.latency_ms,
            speedup=trial.speedup,
            size_bytes=trial.size_bytes,
            chosen=trial is best,
        )

    def _row(self, trial: Trial, best: Trial) -> dict[str, Any]:
        """The point for those who read: how many layers rather than which, and the loss that it was judged by."""
        figures = self._point(trial, best).model_dump(exclude={"kept"})
        return {"layers_in_fp32": len(trial.kept), "accuracy_drop": trial.drop, **figures}


def _weights_of(model: onnx.ModelProto, nodes: frozenset[str]) -> frozenset[str]:
    """The initializers that `nodes` read, and no other node does."""
    inside = {name for node in model.graph.node if node.name in nodes for name in node.input}
    outside = {name for node in model.graph.node if node.name not in nodes for name in node.input}
    return frozenset(tensor.name for tensor in model.graph.initializer) & (inside - outside)
