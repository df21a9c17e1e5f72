"""The comparison: each variant of a model against the original of its revision."""

from datetime import datetime

from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from app.registry import models, variants
from app.registry.tables import Model, Variant


class LatencyView(BaseModel):
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
    verdict: str | None
    default: bool
    size_bytes: int
    size_ratio: float
    accuracy: float | None = Field(description="Share of held-out samples whose top-1 is their label.")
    accuracy_ratio: float | None
    agreement: float | None = Field(description="Share of held-out samples whose top-1 is the original's.")
    cosine: float | None
    sqnr_db: float | None
    latency_ms: LatencyView | None
    speedup: float | None
    speedup_low: float | None = Field(description="Lower end of the 95% confidence interval.")
    speedup_high: float | None
    samples: int | None = Field(description="Held-out samples that were evaluated.")
    dataset: str | None
    engine: str
    digest: str
    created_at: datetime


def compared(session: Session, model: Model) -> list[Row]:
    """All variants of `model`, each against the original of its revision."""
    rows = variants.listed(session, model)
    originals = {row.revision_id: row for row in rows if row.label == models.ORIGINAL}
    return [_row(model, row, originals[row.revision_id]) for row in rows]


def one(session: Session, model: Model, variant: Variant) -> Row:
    """The row of `variant` alone."""
    return _row(model, variant, variants.original_of(session, variant.revision))


def _row(model: Model, variant: Variant, original: Variant) -> Row:
    figures = variant.evaluation
    measured = figures is not None
    latency = (
        LatencyView(p50=figures.latency_p50_ms, p95=figures.latency_p95_ms or 0, p99=figures.latency_p99_ms or 0)
        if figures is not None and figures.latency_p50_ms is not None
        else None
    )
    names = ("accuracy", "accuracy_ratio", "agreement", "cosine", "sqnr_db", "speedup", "speedup_low", "speedup_high")
    return {
        "variant": variant.label,
        "version": variant.version,
        "revision": variant.revision.number,
        "method": variant.method,
        "state": variant.state,
        "verdict": variant.verdict,
        "default": variant.id == model.default_variant_id,
        "size_bytes": variant.size_bytes,
        "size_ratio": variant.size_bytes / original.size_bytes,
        **{name: getattr(figures, name) if measured else None for name in names},
        "latency_ms": latency,
        "samples": figures.samples if figures is not None else None,
        "dataset": figures.dataset if figures is not None else None,
        "engine": variant.engine,
        "digest": variant.digest,
        "created_at": variant.created_at,
    }
