"""What is measured of an artifact, of its layers, and of the points of a search."""

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
