"""What one confined process is granted, as its parent writes it down for it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Grant:
    """`folder`: its own, to read and write; None for no right to write at all. `readable`: files and folders besides.

    `memory_bytes`: of address space. `cpu_seconds`: of all its threads together, None for no limit.
    `file_bytes`: the largest file that it may write.
    """

    folder: Path | None
    readable: tuple[Path, ...] = ()
    memory_bytes: int | None = None
    cpu_seconds: int | None = None
    file_bytes: int = 0
    open_files: int = 256

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> "Grant":
        """What `to_json` wrote."""
        values = json.loads(text)
        folder = Path(values["folder"]) if values["folder"] is not None else None
        return cls(**values | {"folder": folder, "readable": tuple(map(Path, values["readable"]))})
