"""What is measured of an artifact, of its layers, and of the points of a search."""

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field


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


class MetricFigures(BaseModel):
    """What an evaluation metric came to; None is what was not measured, or is infinite.

    Attributes:
        name: Lower case, words joined by `_`.
        unit: `share` is 0..1; anything else is a unit as it is written behind a figure, or empty.
        higher_is_better: The direction of improvement.
        original: Of the original; None where the metric compares the variant with the original.
        variant: Of the variant; None where the original was measured by itself.
        change: The variant's figure less the original's.
        low: Lower end of the 95% interval of `change` or, without `original`, of `variant`.
        high: Upper end of that interval.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    unit: str
    higher_is_better: bool
    original: float | None
    variant: float | None
    change: float | None
    low: float | None
    high: float | None

    @property
    def label(self) -> str:
        """The name as people read it."""
        return self.name.replace("_", " ")

    def of_original(self) -> "MetricFigures":
        """The original's part alone."""
        return self.model_copy(update=dict.fromkeys(("variant", "change", "low", "high")))


def further_metrics(metrics: Iterable[MetricFigures]) -> list[MetricFigures]:
    """Those without a field in `Figures`. Tables have columns for the others."""
    return [metric for metric in metrics if metric.name not in Figures.model_fields]


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
