"""What every face of the protocol stands on."""

from concurrent.futures import Executor
from dataclasses import dataclass

from app.access.gate import Gate
from app.inference.core import InferenceCore
from app.inference.repository import Repository
from app.inference.variant_cache import VariantCache
from app.inference.variant_statistics import VariantStatistics
from app.registry import Database
from app.serving.draining import Draining


@dataclass(frozen=True, kw_only=True)
class Backend:
    """`server_name` and `log_level` are what clients are told.

    `control`: runs loads and unloads, at a lower priority than inference. `gate`: says who may call over gRPC;
    None for everybody.
    """

    core: InferenceCore
    variants: VariantCache
    statistics: VariantStatistics
    repository: Repository
    database: Database
    draining: Draining
    control: Executor
    server_name: str
    log_level: str
    gate: Gate | None = None
