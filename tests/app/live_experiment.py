"""A model with variants, and what units in an experiment on it did."""

import numpy as np
from fastapi.testclient import TestClient

from app.experiments.assignment import Arm, Split
from app.experiments.counts import Counts
from app.registry import Database, models, records, variants
from app.registry.tables import Variant

URL = "/api/v1/models/linear/experiments"
ARMS = [{"variant": "original", "weight": 50, "control": True}, {"variant": "int8", "weight": 50}]
WANTED = {"name": "int8-live", "seed": "a seed", "arms": ARMS}
SPLIT = Split("a seed", (Arm("original", 50, control=True), Arm("int8", 50)))


def add_variants(database: Database) -> None:
    """Gives the model `linear` a variant `int8`, and `bad`, which was rejected; both answer as the original does."""
    add_variant(database, "int8")
    add_variant(database, "bad", verdict="rejected", reasons=["too far off"])


def add_variant(database: Database, label: str, **facts: object) -> None:
    """Gives the model `linear` a variant, put into the registry as a job would; it answers as the original does,
    unless `facts` name another `digest`."""
    with database.writing() as session:
        model = models.find(session, "linear")
        original = variants.find(session, model, "original")
        known: dict[str, object] = {
            "method": "int8",
            "options": {},
            "state": "ready",
            "verdict": "accepted",
            "reasons": [],
            "engine": original.engine,
            "digest": original.digest,
            "size_bytes": original.size_bytes,
        }
        version = models.take_version(session, model)
        session.add(
            Variant(model_id=model.id, revision=original.revision, label=label, version=version, **(known | facts))
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
        records.save_counts(session, experiment_id, "one", counts.to_json())
    return counts


def create(client: TestClient, **changes: object) -> str:
    """The address of a new experiment as `WANTED`, but for `changes`."""
    answer = client.post(URL, json=WANTED | changes)
    assert answer.status_code == 201, answer.text
    address: str = answer.headers["Location"]
    return address


def id_of(address: str) -> str:
    return address.rsplit("/", 1)[1]
