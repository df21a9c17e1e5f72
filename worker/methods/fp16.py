"""FP16 storage: half the bytes on disk, FP32 arithmetic.

onnxruntime's CPU provider has few FP16 kernels, and a graph of FP16 arithmetic is slower there than FP32 (its issue
25824). So only weights are FP16, each behind a Cast to FP32, which the runtime folds when it loads the model.
"""

from app.errors import NotQuantizable
from worker import onnx_files
from worker.graph import half, interface, opset
from worker.methods.method import ARTIFACT, Made, Task


def make(task: Task) -> Made:
    """Works on the upload's own graph. Raises `NotQuantizable` when no weight can be stored in half the bytes."""
    task.progress("prepare", 0.0)
    model = onnx_files.load(task.source, weights=False)
    interface.drop_overridable_inputs(model)
    model = opset.at_least(model, opset.RUNNABLE)
    task.progress("quantize", 0.0)
    halved = half.halve(model)
    if not halved.stored:
        raise NotQuantizable(
            "method 'fp16' found no FP32 weight tensor to store in half precision"
            + (f"; {len(halved.kept)} tensor(s) do not fit its range" if halved.kept else "")
        )
    artifact = task.folder / ARTIFACT
    data = onnx_files.save(model, artifact)
    return Made(
        artifact,
        data,
        reference=task.source,
        facts={
            "types": {"weight": "fp16", "activation": "fp32", "reason": "computed in FP32: half the size, same speed"},
            "halved_tensors": halved.stored,
            "kept_fp32": [{"tensor": name, "reason": reason} for name, reason in halved.kept.items()],
        },
        notes=tuple(f"'{name}' stays in FP32: {reason}" for name, reason in halved.kept.items()),
    )
