"""Old opsets → one that quantized graphs can be written in."""

import onnx
from onnx import version_converter

from app.errors import JobFailed
from worker.onnx_files import opset_version

#: DequantizeLinear takes an axis, that is per-channel scales, from here on.
QUANTIZABLE = 13
#: Float16 Cast by type number, and what onnxruntime supports at all.
RUNNABLE = 7
#: What older models are converted to.
TARGET = 17


def at_least(model: onnx.ModelProto, minimum: int) -> onnx.ModelProto:
    """`model` itself when its opset is `minimum` or newer, else converted to `TARGET`.

    External tensors stay references. Raises `JobFailed` with the reason when the converter cannot do it.
    """
    found = opset_version(model)
    if found >= minimum:
        return model
    try:
        converted: onnx.ModelProto = version_converter.convert_version(model, TARGET)
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise JobFailed(
            f"the model is of opset {found}; quantization needs {minimum} or newer, and converting it to {TARGET}"
            f" failed ({reason}); export it with opset {TARGET}"
        ) from error
    return converted
