"""An experiment that has seen units, put into the registry as gateways would."""

from typing import Any

from fastapi.testclient import TestClient

from app.registry import Database
from app.settings import Settings
from tests.app.live_experiment import add_variants, create, id_of, keep_counts

GUARDRAILS = [{"metric": "error_rate", "margin_abs": 0.02}, {"metric": "latency_p95", "margin_rel": 0.5}]


def counted_experiment(
    client: TestClient,
    settings: Settings,
    *,
    requests: int = 4000,
    faster: float = 2.0,
    failing: float = 0.0,
    **more: Any,
) -> str:
    """The id of an experiment on `linear` that runs: `int8` is so much faster, and fails at a part."""
    database = Database(settings.registry_url)
    add_variants(database)
    address = create(client, **({"name": "live", "guardrails": GUARDRAILS} | more))
    assert client.post(f"{address}/start").status_code == 200
    experiment_id = id_of(address)
    keep_counts(database, experiment_id, requests, faster=faster, failing=failing)
    database.close()
    return experiment_id
