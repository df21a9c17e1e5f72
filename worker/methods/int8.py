"""Static INT8: weights and activations as integers, the ranges of activations found on samples beforehand."""

from dataclasses import asdict

from app.engines.cpu import usable_cores
from app.errors import JobFailed, NotQuantizable
from app.registry.methods import Int8Options
from worker import onnx_files
from worker.calibration.calibrator import Calibrator
from worker.calibration.ranges import as_onnxruntime, find_range
from worker.graph import interface
from worker.graph.integer_types import choose
from worker.graph.prepare import prepare, refuse_quantized
from worker.graph.selection import select_static
from worker.graph.writers import write_qdq
from worker.methods.method import ARTIFACT, Made, Task


def make_int8(task: Task) -> Made:
    """QDQ form. Raises `NotQuantizable` for a model without a node that could be integer."""
    options = Int8Options.model_validate(task.options)
    if task.calibration is None or len(task.calibration.indices) == 0:
        raise JobFailed("static INT8 needs samples to calibrate on and others to be judged on: at least 2")
    original = onnx_files.load(task.source, weights=False)
    refuse_quantized(original)
    prepared = prepare(task.source, task.folder)
    selection = select_static(onnx_files.load(prepared, weights=False))
    if not selection.computing:
        raise NotQuantizable("; ".join(["no node of this model can be made integer", *selection.notes]))

    calibrator = Calibrator(task.calibration, threads=usable_cores())
    found = calibrator.statistics(
        "prepared",
        prepared,
        selection.activations,
        {},
        progress=lambda share: task.progress("calibrate", share),
    )
    ranges = {name: find_range(histogram, "minmax").range for name, histogram in found.tensors.items()}
    ranges |= {name: ranges[source] for name, source in selection.same_range.items()}

    task.progress("quantize", 0.0)
    types = choose(task.cpu, options.activation_type)
    written = write_qdq(
        onnx_files.load(prepared), selection, as_onnxruntime(ranges), types, per_channel=options.per_channel
    )
    interface.restore(written, original)
    artifact = task.folder / ARTIFACT
    data = onnx_files.save(written, artifact)
    return Made(
        artifact,
        data,
        reference=prepared,
        facts={
            "types": asdict(types) | {"weight": "int8"},
            "integer_nodes": len(selection.nodes),
            "calibrated_tensors": len(ranges),
            "range": "minimum to maximum",
        },
        notes=tuple(selection.notes),
        statistics=calibrator.save(task.folder),
    )
