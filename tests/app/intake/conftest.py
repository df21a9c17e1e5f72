"""A room to check uploads in: whatever is checked, nothing may change outside its scratch folder."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.intake.artifacts import CheckedDataset, CheckedModel, Limits
from app.intake.dataset import check_dataset
from app.intake.onnx_model import check_model


class Room:
    """`folder` is the scratch folder; uploads, and files that an attack may aim at, lie beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path / "scratch"
        self.folder.mkdir()
        self.target = path / "target"
        self.target.write_bytes(b"a secret of the server" * 100)
        self.limits = Limits(seconds=60, unpacked_bytes=1024**3)

    def upload(self, content: bytes) -> Path:
        """`content` as the gateway hands it over: under a name that says nothing."""
        source = self.path / "upload"
        source.write_bytes(content)
        return source

    def model(self, filename: str, content: bytes) -> CheckedModel:
        return check_model(self.upload(content), filename, self.folder, self.limits)

    def dataset(self, filename: str, content: bytes, preprocess: str | None = None) -> CheckedDataset:
        return check_dataset(self.upload(content), filename, self.folder, self.limits, preprocess)

    def clear(self) -> None:
        """Empty the scratch folder, for the next upload."""
        for path in self.folder.iterdir():
            path.unlink()

    def outside(self) -> dict[str, str]:
        """Every file beside the scratch folder and the upload, with the digest of its content."""
        return {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
            for path in sorted(self.path.rglob("*"))
            if not path.is_relative_to(self.folder) and path.name != "upload"
        }


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    room = Room(tmp_path)
    working = tmp_path / "working"
    working.mkdir()
    monkeypatch.chdir(working)
    before = room.outside()
    yield room
    assert room.outside() == before
    assert not any(path.is_symlink() for path in room.folder.rglob("*"))
