"""What a job found: a variant and its figures, or figures of the original alone."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.contracts.figures import MetricFigures
from app.contracts.outcome import SHARED_SECTIONS, Outcome, SequenceAxes
from app.registry import evaluations, models, points, variants
from app.registry.tables import Job, Json, Model, Variant


@dataclass(frozen=True)
class NewArtifact:
    """The files a job made, as blobs."""

    digest: str
    data_digest: str | None
    data_name: str | None
    size_bytes: int


def publish(session: Session, model: Model, job: Job, artifact: NewArtifact | None, outcome: Outcome) -> Variant:
    """The variant that was made and measured or, without an artifact, the original, which was measured.

    The caller has `model` locked, and sees to it that the job is still its worker's.
    """
    original = variants.original_of(session, job.revision)
    if artifact is None:
        if outcome.batchable is not None:
            original.batchable = outcome.batchable
            original.padding = _as_json(outcome.padding)
        _record_original(session, job, original, outcome, outcome.report)
        return original
    variant = _add_variant(session, model, job, artifact, outcome)
    original.padding = _as_json(outcome.original_padding)
    evaluations.record(
        session,
        variant,
        outcome.variant,
        dataset=job.dataset_name,
        samples=outcome.samples,
        layers=outcome.layers,
        report=outcome.report,
    )
    # The original is measured beside each variant.
    shared = {key: outcome.report[key] for key in SHARED_SECTIONS if key in outcome.report}
    if "metrics" in outcome.report:
        shared["metrics"] = _metrics_of_original(outcome.report["metrics"])
    _record_original(session, job, original, outcome, shared)
    points.record(session, job, outcome.points)
    return variant


def _metrics_of_original(metrics: list[Json]) -> list[Json]:
    measured = [MetricFigures.model_validate(metric) for metric in metrics]
    return [metric.of_original().model_dump() for metric in measured if metric.original is not None]


def _add_variant(session: Session, model: Model, job: Job, artifact: NewArtifact, outcome: Outcome) -> Variant:
    variant = Variant(
        model_id=model.id,
        revision=job.revision,
        label=job.label,
        version=models.take_version(session, model),
        method=job.method,
        options=job.options,
        state="ready",
        verdict=outcome.verdict,
        reasons=outcome.reasons,
        batchable=outcome.batchable,
        padding=_as_json(outcome.padding),
        engine=outcome.engine,
        digest=artifact.digest,
        data_digest=artifact.data_digest,
        data_name=artifact.data_name,
        size_bytes=artifact.size_bytes,
    )
    session.add(variant)
    session.flush()
    return variant


def _as_json(axes: SequenceAxes | None) -> Json | None:
    return None if axes is None else axes.model_dump()


def _record_original(session: Session, job: Job, original: Variant, outcome: Outcome, report: Json) -> None:
    # An evaluation on data is not replaced by one without.
    if outcome.samples > 0 or original.evaluation is None or original.evaluation.samples == 0:
        evaluations.record(
            session,
            original,
            outcome.original,
            dataset=job.dataset_name,
            samples=outcome.samples,
            layers=[],
            report=report,
        )
