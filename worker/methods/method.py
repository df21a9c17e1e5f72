"""What a method is given and what it gives back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from app.contracts.figures import PointFigures
from app.engines import Engine
from app.engines.cpu import Cpu
from worker.calibration.histogram import Histogram
from worker.samples import Indices

#: "prepare", "calibrate", "quantize", the method's own `long_stage`, "gate" or "evaluate".
Stage = str


class Progress(Protocol):
    """Called with a stage, the share of it that is done and, where there is more to tell, a `detail`.

    A detail is JSON; its `text` is one short line for people, its other keys are for programs.
    """

    def __call__(self, stage: Stage, share: float, detail: Mapping[str, Any] | None = None, /) -> None: ...


ARTIFACT = "variant.onnx"


@dataclass(frozen=True)
class CalibrationSamples:
    """The part of a dataset that a method may look at: `indices` into the first axis of `arrays` calibrate.

    `known` is a file with what an earlier job found on these samples, if there was one. `development` are the indices,
    those of calibration first, that a search may judge by and training may learn from. `labels` are those of all
    samples, where there are any.
    """

    arrays: Mapping[str, NDArray[Any]]
    indices: Indices
    known: Path | None = None
    development: Indices = field(default_factory=lambda: np.zeros(0, np.int64))
    labels: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Task:
    """One model to be made smaller or faster.

    `source` is the upload, its external data beside it, never to be written to. `folder` takes what is made.
    `options` are those of the method, complete and checked. `engine` runs the model and what is made of it.
    `intra_op_threads` is what serving uses, and latency is
    measured with.

    `checkpoint` is the file that an earlier attempt at this job announced last, if it was stopped after that. `save`
    announces a file of `folder`, whole and never changed again, as what a next attempt would go on from; it replaces
    the one before. `point` names the nodes that stay in FP32 where an earlier search has chosen them.
    """

    source: Path
    folder: Path
    options: Mapping[str, Any]
    engine: Engine
    cpu: Cpu
    calibration: CalibrationSamples | None
    progress: Progress
    intra_op_threads: int = 1
    checkpoint: Path | None = None
    save: Callable[[Path], None] = lambda path: None
    point: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Made:
    """An artifact, and what evaluation and report need to know of how it was made.

    `reference` is an FP32 model whose tensors carry the names that they have in the artifact. `facts` are JSON;
    their `types` say the types of weights and activations, and the `reason` for them.
    `ranges` are those calibrated, low and high, of tensors of `reference`, and `histograms` what they were found on.
    `repairs` say in words, by node of `reference`, what was done to it. `statistics` is a file with what calibration
    found, for the next job on the same samples. `sections` are further parts of the report, JSON as well. `points` are
    what a search found between the original and the smallest variant.
    """

    artifact: Path
    data: Path | None
    reference: Path
    facts: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    statistics: Path | None = None
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    repairs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    points: tuple[PointFigures, ...] = ()
    sections: Mapping[str, Any] = field(default_factory=dict)
