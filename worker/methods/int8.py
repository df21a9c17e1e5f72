"""Static INT8: weights and activations as integers, the ranges of activations found on samples beforehand."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from app.contracts.options import Int8Options, RangeMethod
from app.engines.cpu import usable_cores
from app.errors import JobFailed, NotQuantizable
from worker import onnx_files
from worker.calibration.calibrator import Calibrator
from worker.calibration.ranges import find_ranges
from worker.calibration.statistics import Statistics
from worker.evaluation.layers import compare_layers
from worker.graph.integer_types import choose
from worker.graph.prepare import prepare, read_interface
from worker.graph.selection import Selection, select_static
from worker.methods.method import ARTIFACT, CalibrationSamples, Made, Task
from worker.repair.alphas import sampled_rows
from worker.repair.design import Design
from worker.repair.exclusions import by_damage
from worker.repair.judge import Judge
from worker.repair.ladder import Climbed, climb
from worker.repair.mean_errors import mean_errors
from worker.repair.rungs import Rungs, input_channels

_JUDGING_SAMPLES = 48
_MEAN_ERROR_SAMPLES = 32
_DAMAGE_SAMPLES = 16

# Until a repair shows that another is better.
_FIRST_RANGE: RangeMethod = "minmax"


def make(task: Task) -> Made:
    """QDQ form. Raises `NotQuantizable` for a model without a node that could be integer."""
    return best_int8(task, Int8Options.model_validate(task.options)).made()


@dataclass(frozen=True)
class BestInt8:
    """The best design that post-training quantization found; what goes beyond that begins here.

    `known` are the statistics that its ranges come from, and `folder` is where these are kept for the next job.
    """

    climbed: Climbed[Design]
    known: Statistics
    calibrator: Calibrator
    folder: Path

    def made(self) -> Made:
        climbed, design = self.climbed, self.climbed.design
        return Made(
            climbed.artifact,
            climbed.data,
            reference=design.model,
            facts=self.facts,
            notes=tuple(design.selection.notes),
            statistics=self.calibrator.save(self.folder),
            ranges={name: (found.low, found.high) for name, found in design.ranges.items()},
            histograms=design.histograms,
            repairs=design.repairs,
        )

    @property
    def facts(self) -> dict[str, Any]:
        design = self.climbed.design
        return {
            "types": asdict(design.types) | {"weight": "int8"},
            "integer_nodes": len(design.selection.nodes) + len(design.selection.tables),
            "calibrated_tensors": len(self.known.tensors),
            "range": design.range_method,
            "repairs": [step.as_json() for step in self.climbed.steps],
        }


def best_int8(task: Task, options: Int8Options, *, may_exclude: bool = True) -> BestInt8:
    """Calibrate, and climb the ladder. Raises `NotQuantizable` where no node could be integer.

    Unless it `may_exclude`, every node that can be integer is.
    """
    if task.calibration is None or len(task.calibration.indices) == 0:
        raise JobFailed("static INT8 needs samples to calibrate on and others to be judged on: at least 2")
    return _Int8(task, task.calibration, options, may_exclude).best()


@dataclass(frozen=True)
class _Int8:
    task: Task
    samples: CalibrationSamples
    options: Int8Options
    may_exclude: bool

    def best(self) -> BestInt8:
        original = read_interface(self.task.source)
        prepared = prepare(self.task.source, self.task.folder)
        graph = onnx_files.load(prepared, weights=False)
        selection = select_static(graph)
        if not selection.computing:
            raise NotQuantizable("; ".join(["no node of this model can be made integer", *selection.notes]))

        calibrator = Calibrator(self.samples, engine=self.task.engine, threads=usable_cores())
        known = calibrator.statistics(
            "prepared",
            prepared,
            selection.activations,
            input_channels(graph, selection.nodes),
            progress=lambda share: self.task.progress("calibrate", share),
        )
        start = self._first_design(original, prepared, selection, known)
        self.task.progress("quantize", 0.0)
        return BestInt8(self._climb(start, known, calibrator), known, calibrator, self.task.folder)

    def _first_design(
        self, original: onnx.ModelProto, prepared: Path, selection: Selection, known: Statistics
    ) -> Design:
        method = (
            _FIRST_RANGE if self.options.calibration == "auto" and self.options.repair else self.options.calibration
        )
        types = choose(self.task.cpu, self.options.activation_type, self.options.activation_bits)
        return Design(
            model=prepared,
            original=original,
            selection=selection,
            ranges=find_ranges(known.tensors, method, types.levels),
            range_method=method,
            channels=known.channels,
            histograms=known.tensors,
            types=types,
            per_channel=self.options.per_channel,
        )

    def _climb(self, start: Design, known: Statistics, calibrator: Calibrator) -> Climbed[Design]:
        judged = self.samples.indices[:_JUDGING_SAMPLES]
        judge = Judge(self.task.source, self.samples.arrays, judged, engine=self.task.engine, threads=usable_cores())

        def calibrate(label: str, model: Path, tensors: Sequence[str], channels: Mapping[str, int]) -> Statistics:
            return calibrator.statistics(label, model, tensors, channels, progress=lambda share: None)

        rungs = Rungs(self.task.folder, calibrate, self._damage, self._mean_errors, self._rows)
        return climb(
            start,
            rungs.all(known, self.options.calibration, may_exclude=self.may_exclude)
            if self.options.repair and judge.has_floats
            else [],
            judge,
            self.task.folder / ARTIFACT,
            lambda share: self.task.progress("quantize", share),
        )

    def _mean_errors(self, design: Design) -> dict[str, NDArray[np.float32]]:
        chosen = self.samples.indices[:_MEAN_ERROR_SAMPLES]
        return mean_errors(design, self.samples.arrays, chosen, engine=self.task.engine, threads=usable_cores())

    def _rows(self, model: Path, tensors: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        chosen = self.samples.indices[:_DAMAGE_SAMPLES]
        return sampled_rows(
            model, tensors, self.samples.arrays, chosen, engine=self.task.engine, threads=usable_cores()
        )

    def _damage(self, design: Design, artifact: Path) -> list[str]:
        layers = compare_layers(
            design.model,
            artifact,
            self.samples.arrays,
            self.samples.indices[:_DAMAGE_SAMPLES],
            engine=self.task.engine,
            threads=usable_cores(),
            progress=lambda share: None,
        )
        return by_damage(onnx_files.load(design.model, weights=False), design.selection, layers)
