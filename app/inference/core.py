"""What every face of the protocol stands on."""

from dataclasses import dataclass

from app.inference.dataplane import DataPlane
from app.inference.recent import Recent
from app.inference.repository import Repository
from app.registry import Database


@dataclass(frozen=True)
class Core:
    """`server_name` and `log_level` are what clients are told; `threads`: requests computed at once."""

    dataplane: DataPlane
    recent: Recent
    repository: Repository
    database: Database
    server_name: str
    log_level: str
    threads: int
