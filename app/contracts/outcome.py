"""The result of a job: what its process hands to the worker, and the worker to the registry."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.contracts.figures import Figures, LayerFigures, PointFigures

#: The verdict of a variant that kept to its budget, and of one that did not.
ACCEPTED, REJECTED = "accepted", "rejected"

#: Sections of a variant's report that describe the measurement, and so hold for the original as well.
SHARED_SECTIONS = ("machine", "versions", "dataset", "latency", "threads")


class SequenceAxes(BaseModel):
    """Which axis of each input and output is as long as the sequence, for those that have one; never the first."""

    model_config = ConfigDict(frozen=True)

    inputs: dict[str, int]
    outputs: dict[str, int]


class Outcome(BaseModel):
    """What a job made: file names are relative to the job's folder.

    Without an `artifact` it made no variant, and only measured the original: its figures and the report are of that.
    `statistics` is what calibration found, to be kept for the next job. `reasons` say in words why the verdict is not
    better. `batchable`: the answer to a sample does not depend on its batch; None where that was not tested.
    `padding`: along these axes, zeros behind a sequence change no answer; None where that is not proved.
    `original_padding` is the same of the original, where that is not what the outcome is about.
    `points` are what a search found, in an order of its own. `report` is everything a reader needs to judge and repeat
    the measurement, JSON all through.
    """

    model_config = ConfigDict(frozen=True)

    artifact: str | None
    data: str | None = None
    engine: str
    verdict: str | None
    reasons: list[str] = Field(default_factory=list)
    batchable: bool | None = None
    padding: SequenceAxes | None = None
    original_padding: SequenceAxes | None = None
    statistics: str | None = None
    samples: int
    original: Figures
    variant: Figures
    layers: list[LayerFigures] = Field(default_factory=list)
    points: list[PointFigures] = Field(default_factory=list)
    report: dict[str, Any]
