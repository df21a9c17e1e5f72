"""A model with variants, and what units in an experiment on it did."""

import numpy as np

from app.experiments.assignment import Arm, Split
from app.experiments.counts import Counts
from app.registry import Database, experiments, models, variants
from app.registry.tables import Variant

URL = "/api/v1/models/linear/experiments"
SPLIT = Split("a seed", (Arm("original", 50, control=True), Arm("int8", 50)))


def add_variants(database: Database) -> None:
    """Gives the model `linear` a variant `int8`, and `bad`, which was rejected; both answer as the original does."""
    with database.writing() as session:
        model = models.find(session, "linear")
        original = variants.find(session, model, "original")
        for label, verdict in (("int8", "accepted"), ("bad", "rejected")):
            session.add(
                Variant(
                    model_id=model.id,
                    revision=original.revision,
                    label=label,
                    version=models.take_version(session, model),
                    method="int8",
                    options={},
                    state="ready",
                    verdict=verdict,
                    reasons=["too far off"] if verdict == "rejected" else [],
                    engine=original.engine,
                    digest=original.digest,
                    size_bytes=original.size_bytes,
                )
            )


def keep_counts(
    database: Database,
    experiment_id: str,
    requests: int,
    *,
    faster: float = 1.0,
    failing: float = 0.0,
    lost: float = 0.0,
) -> Counts:
    """Keeps counts of one request a unit, of which `int8` loses a part, fails at a part, and is so much faster."""
    counts = Counts(("original", "int8"))
    rng = np.random.default_rng(1)
    for number in range(requests):
        place = SPLIT.place(f"user-{number}")
        milliseconds = float(rng.lognormal(1, 0.3))
        if place.variant == "int8":
            if rng.random() < lost:
                continue
            if rng.random() < failing:
                counts.failed(place)
                continue
            milliseconds /= faster
        counts.answered(place, int(milliseconds * 1e6))
    with database.writing() as session:
        experiments.save_counts(session, experiment_id, "one", counts.to_json())
    return counts
