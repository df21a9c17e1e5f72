"""What was measured of a variant: the figures a job hands over, and how they are kept."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from app.registry.tables import Evaluation, LayerEvaluation, Variant

#: The verdict of a variant that kept to its budget, and of one that did not.
ACCEPTED, REJECTED = "accepted", "rejected"

#: Sections of a variant's report that describe the measurement, and so hold for the original as well.
SHARED_SECTIONS = ("machine", "versions", "dataset", "latency", "threads")


class LayerFigures(BaseModel):
    """One tensor that original and variant both compute. `sqnr_db` is None where both are equal (infinite).

    `shape` is that of `tensor` in a batch of one sample. `activations` and `weights` are the types that the variant has
    of what the layer reads, `repairs` what was done to it, in words. Older reports do not tell these.
    """

    name: str
    operator: str
    sqnr_db: float | None
    tensor: str | None = None
    shape: list[int] | None = None
    activations: str | None = None
    weights: str | None = None
    repairs: list[str] = Field(default_factory=list)


class Figures(BaseModel):
    """Figures of one artifact; None is what was not measured. Ratios and speedup are against the original.

    `accuracy` and `agreement` are shares (0..1) of held-out samples: top-1 equal to the label, and equal to the
    original's top-1. `speedup_low`/`speedup_high` bound the 95% confidence interval of `speedup`.
    """

    model_config = ConfigDict(frozen=True)

    accuracy: float | None = None
    accuracy_ratio: float | None = None
    agreement: float | None = None
    cosine: float | None = None
    sqnr_db: float | None = None
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    latency_p99_ms: float | None = None
    speedup: float | None = None
    speedup_low: float | None = None
    speedup_high: float | None = None


class PointFigures(BaseModel):
    """One outcome of a search, measured on samples of the search: what stays in FP32, and what that gives."""

    model_config = ConfigDict(frozen=True)

    kept: list[str]
    accuracy: float | None
    agreement: float | None
    sqnr_db: float | None
    latency_ms: float | None
    speedup: float | None
    size_bytes: int
    chosen: bool


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


_COLUMNS = {"name", "operator", "sqnr_db"}
_DETAILS = "layer_details"


def record(
    session: Session,
    variant: Variant,
    figures: Figures,
    *,
    dataset: str | None,
    samples: int,
    layers: list[LayerFigures],
    report: dict[str, Any],
) -> Evaluation:
    """Keep `figures` as the evaluation of `variant`, in place of an earlier one."""
    if variant.evaluation is not None:
        session.delete(variant.evaluation)
        session.flush()
    evaluation = Evaluation(
        variant=variant,
        dataset=dataset,
        samples=samples,
        # Layers have a table of their own, for what they are sought and sorted by.
        report={section: content for section, content in report.items() if section != "layers"}
        | ({_DETAILS: [layer.model_dump(exclude=_COLUMNS) for layer in layers]} if layers else {}),
        layers=[
            LayerEvaluation(position=position, name=layer.name, operator=layer.operator, sqnr_db=layer.sqnr_db)
            for position, layer in enumerate(layers)
        ],
        **figures.model_dump(),
    )
    session.add(evaluation)
    return evaluation


def whole_report(evaluation: Evaluation) -> dict[str, Any]:
    """The report as it was recorded, its layers included."""
    report = {section: content for section, content in evaluation.report.items() if section != _DETAILS}
    details = evaluation.report.get(_DETAILS) or [{}] * len(evaluation.layers)
    layers = [
        LayerFigures(name=layer.name, operator=layer.operator, sqnr_db=layer.sqnr_db, **detail).model_dump()
        for layer, detail in zip(evaluation.layers, details, strict=True)
    ]
    return report | {"layers": layers}
