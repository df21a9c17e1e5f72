"""Dynamic INT8: integer weights, and activations whose range is taken anew from each request."""

from dataclasses import asdict

from app.contracts.options import DynamicOptions
from app.errors import NotQuantizable
from worker import onnx_files
from worker.graph import embeddings, gemm, interface
from worker.graph.integer_types import choose_dynamic
from worker.graph.prepare import prepare, read_interface
from worker.graph.selection import select_dynamic
from worker.graph.writers import write_dynamic
from worker.methods.method import ARTIFACT, Made, Task


def make(task: Task) -> Made:
    """Raises `NotQuantizable` for a model without a MatMul or Gemm of constant weight."""
    options = DynamicOptions.model_validate(task.options)
    original = read_interface(task.source)
    prepared = prepare(task.source, task.folder)

    task.progress("quantize", 0.0)
    model = onnx_files.load(prepared, weights=False)
    gemm.split(model.graph)
    selection = select_dynamic(model)
    if not selection.computing:
        raise NotQuantizable("; ".join(["no MatMul or Gemm of this model can be made integer", *selection.notes]))
    embeddings.quantize(model, frozenset(selection.tables))
    types = choose_dynamic(task.cpu)
    written = write_dynamic(model, selection, types, per_channel=options.per_channel)
    interface.restore(written, original)
    artifact = task.folder / ARTIFACT
    data = onnx_files.save(written, artifact)
    return Made(
        artifact,
        data,
        reference=prepared,
        facts={
            "types": asdict(types) | {"weight": "int8"},
            "integer_nodes": len(selection.nodes) + len(selection.tables),
        },
        notes=tuple(selection.notes),
    )
