"""What calibration finds out, and all that a writer of quantized graphs needs of it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData


@dataclass(frozen=True)
class ActivationRange:
    """The values, `low` to `high`, that the integers of one tensor are to stand for."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low <= self.high):
            raise ValueError(f"[{self.low}, {self.high}] is not a range")


Ranges = Mapping[str, ActivationRange]


def as_onnxruntime(ranges: Ranges) -> TensorsData:
    """`ranges` by tensor name, as onnxruntime's quantizers take them."""
    return TensorsData(
        CalibrationMethod.MinMax,
        {name: (np.float32(found.low), np.float32(found.high)) for name, found in ranges.items()},
    )
