"""What one confined process is granted, as its parent writes it down for it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from app import custom_operators


@dataclass(frozen=True)
class Grant:
    """`folder`: its own, to read and write; None for no right to write at all. `readable`: files and folders besides.

    `memory_bytes`: of address space. `cpu_seconds`: of all its threads together, None for no limit.
    `file_bytes`: the largest file that it may write. `operators`: libraries of custom operators by their domains, which
    it may run; what this process may, unless said otherwise.
    """

    folder: Path | None
    readable: tuple[Path, ...] = ()
    memory_bytes: int | None = None
    cpu_seconds: int | None = None
    file_bytes: int = 0
    open_files: int = 256
    operators: Mapping[str, Path] = field(default_factory=custom_operators.allowed)

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> "Grant":
        """What `to_json` wrote."""
        values = json.loads(text)
        folder = Path(values["folder"]) if values["folder"] is not None else None
        operators = {domain: Path(path) for domain, path in values["operators"].items()}
        readable = tuple(map(Path, values["readable"]))
        return cls(**values | {"folder": folder, "readable": readable, "operators": operators})
