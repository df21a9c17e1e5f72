"""What every face of the protocol stands on."""

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from app.access.gate import Gate
from app.inference.dataplane import DataPlane, InferenceResponse
from app.inference.repository import Repository
from app.inference.trials import Trials
from app.inference.variant_cache import Recent
from app.registry import Database
from app.serving.draining import Draining


@dataclass(frozen=True, kw_only=True)
class Core:
    """`server_name` and `log_level` are what clients are told; `threads`: requests computed at once.

    `control`: where loads and unloads run, of which the kernel prefers inference. `on_answer` hears of each inference
    that was answered. `gate`: says who may call over gRPC; None for everybody.
    """

    dataplane: DataPlane
    recent: Recent
    trials: Trials
    repository: Repository
    database: Database
    draining: Draining
    control: Executor
    server_name: str
    log_level: str
    threads: int
    on_answer: Callable[[InferenceResponse], None] | None = None
    gate: Gate | None = None
