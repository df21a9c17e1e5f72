"""Registries with many models, each with many measured variants."""

from app.contracts.figures import Figures
from app.registry import Database, evaluations, models, variants
from app.registry.tables import Variant
from tests.app.registry.conftest import new_revision

#: As long as reports of models with a hundred layers are.
REPORT = {"notes": ["x" * 100] * 300}
ORIGINAL = Figures(accuracy=0.9, latency_p50_ms=2.0, latency_p95_ms=2.2, latency_p99_ms=2.4)


def add_models(database: Database, count: int, *, made: int, prefix: str = "model") -> None:
    """Adds `count` models of `made` variants each, beside their originals; the first of them is the fastest."""
    with database.writing() as session:
        for number in range(count):
            revision, _ = models.register(session, f"{prefix}-{number:03}", new_revision())
            model = revision.model
            record(session, variants.find(session, model, "original"), ORIGINAL)
            for index in range(made):
                variant = Variant(
                    model_id=model.id,
                    revision=revision,
                    label=f"v{index:02}",
                    version=models.take_version(session, model),
                    method="int8",
                    options={},
                    state="ready",
                    verdict="accepted",
                    reasons=[],
                    engine="onnxruntime",
                    digest=f"{index:064d}",
                    size_bytes=300 + index,
                )
                session.add(variant)
                record(session, variant, figures(3.0 - index * 0.02))


def figures(speedup: float) -> Figures:
    return Figures(
        accuracy=0.89,
        accuracy_ratio=0.99,
        agreement=0.97,
        cosine=0.999,
        sqnr_db=30.0,
        latency_p50_ms=2.0 / speedup,
        latency_p95_ms=2.2 / speedup,
        latency_p99_ms=2.4 / speedup,
        speedup=speedup,
        speedup_low=speedup - 0.005,
        speedup_high=speedup + 0.005,
    )


def record(session, variant, measured: Figures) -> None:  # type: ignore[no-untyped-def]
    evaluations.record(session, variant, measured, dataset="samples", samples=256, layers=[], report=REPORT)
