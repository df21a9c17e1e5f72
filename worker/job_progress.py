"""How far a job is: the share of it that each stage, and each part of evaluation, takes."""

from collections.abc import Callable, Mapping
from typing import Any

from app.contracts.methods import OFFERED
from worker.channel import Channel
from worker.methods import Progress, Stage

# The share of a job at which each stage begins; the next one's is where it ends.
_BEGINS: dict[str, float] = {"prepare": 0.0, "calibrate": 0.05, "quantize": 0.3, "gate": 0.4, "evaluate": 0.45}
# Of methods that have a long stage of their own.
_BEGINS_AROUND: dict[str, float] = {"prepare": 0.0, "calibrate": 0.02, "quantize": 0.1, "gate": 0.85, "evaluate": 0.87}
_LONG_BEGINS = 0.15

# Where the parts of evaluation end, as shares of it.
HELDOUT_END, LATENCY_END = 0.6, 0.9


def job_progress(channel: Channel, method: str) -> Progress:
    """Return what a stage reports to: it sends the stage's own share as a share of the whole job."""
    long = OFFERED[method].long_stage
    begins = _BEGINS if long is None else {**_BEGINS_AROUND, long: _LONG_BEGINS}
    stages = sorted(begins, key=lambda stage: begins[stage])
    spans = {
        stage: (begins[stage], end) for stage, end in zip(stages, [*sorted(begins.values())[1:], 1.0], strict=True)
    }

    def progress(stage: Stage, share: float, detail: Mapping[str, Any] | None = None, /) -> None:
        begin, end = spans[stage]
        channel.progress(stage, begin + (end - begin) * min(1.0, share), detail)

    return progress


def part_of_evaluation(progress: Progress, begin: float, end: float) -> Callable[[float], None]:
    """Return what one part of evaluation reports its own share to."""
    return lambda share: progress("evaluate", begin + (end - begin) * share)
