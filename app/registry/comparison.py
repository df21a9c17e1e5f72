"""The comparison: each variant of a model against the original of its revision."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from app.contracts.figures import MetricFigures
from app.contracts.outcome import REJECTED
from app.registry import models, variants
from app.registry.tables import Evaluation, Model, Variant


class LatencyView(BaseModel):
    """Milliseconds for one request of one sample."""

    p50: float
    p95: float
    p99: float


class Row(BaseModel):
    """A row of the comparison. Ratios and speedup are against the original; null is what was not measured."""

    variant: str
    version: int
    revision: int
    method: str
    state: str
    verdict: str | None = Field(description="`rejected` where it broke its budget; such a variant does not serve.")
    reasons: list[str] = Field(description="Why it was rejected.")
    overridden: bool = Field(description="Rejected, and serves all the same.")
    batchable: bool | None = Field(description="Answers do not depend on the batch; null where that was not tested.")
    paddable: bool = Field(description="Zeros behind a sequence were proved to change no answer.")
    default: bool
    size_bytes: int
    size_ratio: float
    accuracy: float | None = Field(default=None, description="Share of held-out samples whose top-1 is their label.")
    accuracy_ratio: float | None = None
    agreement: float | None = Field(
        default=None, description="Share of held-out samples whose top-1 is the original's."
    )
    cosine: float | None = None
    sqnr_db: float | None = None
    latency_ms: LatencyView | None = None
    speedup: float | None = None
    speedup_low: float | None = Field(default=None, description="Lower end of the 95% confidence interval.")
    speedup_high: float | None = None
    metrics: list[MetricFigures] = Field(
        default_factory=list, description="Every evaluation metric that applies to the model and the dataset."
    )
    samples: int | None = Field(default=None, description="Held-out samples that were evaluated.")
    dataset: str | None = None
    engine: str
    digest: str
    created_at: datetime

    @property
    def may_serve(self) -> bool:
        """As `variants.may_serve` says."""
        return self.verdict != REJECTED or self.overridden


def compared(model: Model, rows: list[Variant]) -> list[Row]:
    """All variants of `model`, as `variants.listed` gives them, each against the original of its revision."""
    originals = {row.revision_id: row for row in rows if row.label == models.ORIGINAL}
    return [_row(model, row, originals[row.revision_id]) for row in rows]


def one(session: Session, model: Model, variant: Variant) -> Row:
    """The row of `variant` alone."""
    return _row(model, variant, variants.original_of(session, variant.revision))


def _row(model: Model, variant: Variant, original: Variant) -> Row:
    return Row(
        variant=variant.label,
        version=variant.version,
        revision=variant.revision.number,
        method=variant.method,
        state=variant.state,
        verdict=variant.verdict,
        reasons=variant.reasons,
        overridden=variant.overridden_at is not None,
        batchable=variant.batchable,
        paddable=variants.may_be_padded(variant),
        default=variant.id == model.default_variant_id,
        size_bytes=variant.size_bytes,
        size_ratio=variant.size_bytes / original.size_bytes,
        engine=variant.engine,
        digest=variant.digest,
        created_at=variant.created_at,
        **(_figures(variant.evaluation) if variant.evaluation else {}),
    )


def _figures(measured: Evaluation) -> dict[str, Any]:
    names = ("accuracy", "accuracy_ratio", "agreement", "cosine", "sqnr_db", "speedup", "speedup_low", "speedup_high")
    figures: dict[str, Any] = {name: getattr(measured, name) for name in (*names, "metrics", "samples", "dataset")}
    p50, p95, p99 = measured.latency_p50_ms, measured.latency_p95_ms, measured.latency_p99_ms
    if p50 is not None and p95 is not None and p99 is not None:
        figures["latency_ms"] = LatencyView(p50=p50, p95=p95, p99=p99)
    return figures
