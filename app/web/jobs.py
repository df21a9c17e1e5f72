"""Jobs as pages show them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.registry import jobs
from app.registry.models import ORIGINAL
from app.registry.tables import Job, now
from app.web.charts import Tone

_TONES: dict[str, Tone] = {"running": "accent", "succeeded": "good", "failed": "bad", "cancelled": "warn"}


@dataclass(frozen=True)
class JobLine:
    """A job as it stands. `version` is of what it made, once it has; `saying` is what its method tells of itself."""

    id: str
    model: str
    revision: int
    variant: str
    version: int | None
    method: str
    options: Mapping[str, Any]
    dataset: str | None
    state: str
    stage: str
    progress: float
    saying: str
    attempts: int
    error: str
    is_live: bool
    is_ending: bool
    tone: Tone
    seconds: float | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def title(self) -> str:
        return f"{self.method} of {self.model}" if self.makes_variant else f"evaluation of {self.model}"

    @property
    def makes_variant(self) -> bool:
        return self.variant != ORIGINAL

    @classmethod
    def of(cls, job: Job) -> "JobLine":
        return cls(
            id=job.id,
            model=job.model.name,
            revision=job.revision.number,
            variant=job.label,
            version=job.variant.version if job.variant else None,
            method=job.method,
            options=job.options,
            dataset=job.dataset_name,
            state=job.state,
            stage=job.stage,
            progress=job.progress,
            saying=str((job.detail or {}).get("text", "")),
            attempts=job.attempts,
            error=job.error or "",
            is_live=job.state in jobs.LIVE,
            is_ending=job.state in jobs.LIVE and job.cancel_requested,
            tone=_TONES.get(job.state, "plain"),
            seconds=_seconds(job),
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
        )


def _seconds(job: Job) -> float | None:
    """How long it has run, or did."""
    if job.started_at is None:
        return None
    return ((job.finished_at or now()) - job.started_at).total_seconds()
