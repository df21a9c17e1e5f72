"""A toy method: weights rounded to a few decimals. It stands for a module of `worker.methods`."""

from typing import Annotated

import numpy as np
from onnx import numpy_helper
from pydantic import Field

from app.contracts.options import Options
from worker import onnx_files
from worker.methods.method import ARTIFACT, Made, Task


class RoundedOptions(Options):
    """Weights of a few decimals."""

    decimals: Annotated[int, Field(ge=0, le=6)] = Field(default=2, description="Decimals that a weight keeps.")
    tuning_samples: Annotated[int, Field(ge=1, le=1000)] = Field(default=100, description="Samples not to judge by.")


def make(task: Task) -> Made:
    options = RoundedOptions.model_validate(task.options)
    task.progress("prepare", 0.0)
    model = onnx_files.load(task.source)
    task.progress("round", 0.0, {"text": f"to {options.decimals} decimals"})
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype == np.float32:
            weight.CopyFrom(numpy_helper.from_array(values.round(options.decimals), weight.name))
    artifact = task.folder / ARTIFACT
    return Made(artifact, onnx_files.save(model, artifact), reference=task.source, facts={"decimals": options.decimals})
