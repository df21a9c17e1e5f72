"""How each method is done, by the names of `app.contracts.methods`: one row for each."""

from collections.abc import Callable

from worker.methods.dynamic import make_dynamic
from worker.methods.fp16 import make_fp16
from worker.methods.int4 import make_int4
from worker.methods.int8 import make_int8
from worker.methods.method import CalibrationSamples, Made, Progress, Stage, Task
from worker.methods.mixed import make_mixed
from worker.methods.qat import make_qat

METHODS: dict[str, Callable[[Task], Made]] = {
    "fp16": make_fp16,
    "dynamic": make_dynamic,
    "int8": make_int8,
    "int4": make_int4,
    "mixed": make_mixed,
    "qat": make_qat,
}

__all__ = ["METHODS", "CalibrationSamples", "Made", "Progress", "Stage", "Task"]
