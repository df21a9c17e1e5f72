"""Weight-only INT4 (or INT8): the weights of matrix products in blocks of few bits, everything else as it was."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from app.contracts.options import Int4Options
from app.engines.cpu import usable_cores
from app.errors import Invalid, NotQuantizable
from worker import onnx_files
from worker.calibration.gram import gram_matrices
from worker.graph import embeddings, gemm, interface, nbits
from worker.graph.blockwise import DATA_FREE, gptq
from worker.graph.prepare import prepare, read_interface
from worker.graph.selection import Selection, select_dynamic
from worker.methods.method import ARTIFACT, CalibrationSamples, Made, Task
from worker.repair.judge import Judge
from worker.repair.ladder import Climbed, Proposal, Rung, climb

_JUDGING_SAMPLES = 64


def make(task: Task) -> Made:
    """Raises `NotQuantizable` for a model without a MatMul or Gemm of constant weight."""
    options = Int4Options.model_validate(task.options)
    if options.algorithm == "gptq" and task.calibration is None:
        raise Invalid("algorithm 'gptq' needs a dataset to calibrate on; 'hqq' and 'rtn' do not", field="options")
    original = read_interface(task.source)
    prepared = prepare(task.source, task.folder)
    model = onnx_files.load(prepared, weights=False)
    gemm.split(model.graph)
    selection = select_dynamic(model)
    if not selection.computing:
        raise NotQuantizable("; ".join(["no MatMul or Gemm of this model has a constant weight", *selection.notes]))
    split = task.folder / "split.onnx"
    onnx_files.save_beside(model, split)
    del model
    return _Int4(task, options, original, split, selection).make()


@dataclass(frozen=True)
class _Design:
    """The products of the FP32 graph in the file `model`, their weights rounded by `rounding`."""

    name: str
    model: Path
    original: onnx.ModelProto
    selection: Selection
    rounding: nbits.Rounding

    def write(self, path: Path) -> Path | None:
        model = onnx_files.load(self.model, weights=False)
        chosen = frozenset(self.selection.nodes)
        weights = frozenset(node.input[1] for node in model.graph.node if node.name in chosen)
        nbits.replace_products(model, weights, self.rounding)
        embeddings.quantize(model, frozenset(self.selection.tables))
        interface.restore(model, self.original)
        return onnx_files.save(model, path)


@dataclass(frozen=True)
class _Int4:
    task: Task
    options: Int4Options
    original: onnx.ModelProto
    split: Path
    selection: Selection

    def make(self) -> Made:
        calibration, wish = self.task.calibration, self.options.algorithm
        artifact = self.task.folder / ARTIFACT
        if calibration is not None and wish == "auto":
            climbed = self._climbed(calibration, artifact)
            return self._made(climbed.design.name, artifact, climbed.data, [step.as_json() for step in climbed.steps])
        if calibration is not None and wish == "gptq":
            design = self._gptq(calibration)
        else:
            # Without samples nothing tells more than the weights' own error, of which HQQ leaves the least.
            design = self._data_free("hqq" if wish == "auto" else wish)
        self.task.progress("quantize", 0.0)
        return self._made(design.name, artifact, design.write(artifact), [])

    def _climbed(self, calibration: CalibrationSamples, artifact: Path) -> Climbed[_Design]:
        judged = calibration.indices[:_JUDGING_SAMPLES]
        judge = Judge(self.task.source, calibration.arrays, judged, engine=self.task.engine, threads=usable_cores())

        def rung(name: str, design: Callable[[], _Design]) -> Rung[_Design]:
            def propose(_: _Design, __: Path) -> Iterator[Proposal[_Design]]:
                yield Proposal(design(), f"weights rounded by {name.upper()}")

            return Rung(name, propose)

        return climb(
            self._data_free("rtn"),
            [rung("hqq", lambda: self._data_free("hqq")), rung("gptq", lambda: self._gptq(calibration))],
            judge,
            artifact,
            lambda share: self.task.progress("quantize", share),
        )

    def _data_free(self, name: str) -> _Design:
        algorithm = DATA_FREE[name]
        return self._design(name, lambda _, weight: algorithm(weight, self.options.block_size, self.options.bits))

    def _gptq(self, calibration: CalibrationSamples) -> _Design:
        grams = self._grams(calibration)
        return self._design(
            "gptq", lambda name, weight: gptq(weight, grams[name], self.options.block_size, self.options.bits)
        )

    def _design(self, name: str, rounding: nbits.Rounding) -> _Design:
        return _Design(name, self.split, self.original, self.selection, rounding)

    def _grams(self, calibration: CalibrationSamples) -> dict[str, NDArray[np.float64]]:
        """By weight, XᵀX of all inputs that it is multiplied with."""
        chosen = frozenset(self.selection.nodes)
        nodes = [node for node in onnx_files.load(self.split, weights=False).graph.node if node.name in chosen]
        by_input = gram_matrices(
            self.split,
            sorted({node.input[0] for node in nodes}),
            calibration.arrays,
            calibration.indices,
            engine=self.task.engine,
            threads=usable_cores(),
            progress=lambda share: None,
        )
        found: dict[str, NDArray[np.float64]] = {}
        for node in nodes:
            found[node.input[1]] = found.get(node.input[1], 0.0) + by_input[node.input[0]]
        return found

    def _made(self, algorithm: str, artifact: Path, data: Path | None, steps: list[dict[str, object]]) -> Made:
        options, selection = self.options, self.selection
        return Made(
            artifact,
            data,
            reference=self.split,
            facts={
                "types": {
                    "weight": f"int{options.bits}, blocks of {options.block_size}",
                    "activation": "fp32",
                    "reason": "products in INT8, each row of the input rounded by itself; the rest in FP32",
                },
                "algorithm": algorithm,
                "integer_nodes": len(selection.nodes) + len(selection.tables),
                "repairs": steps,
            },
            notes=tuple(selection.notes),
            repairs={name: (f"weights rounded by {algorithm.upper()}",) for name in selection.nodes},
        )
