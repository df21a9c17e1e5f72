import errno
import os
from pathlib import Path

import pytest

from app.blobs import LocalBlobStore
from app.errors import NoSpace

DIGEST = "ab" + "0" * 62


@pytest.fixture
def store(tmp_path: Path) -> LocalBlobStore:
    return LocalBlobStore(tmp_path / "blobs")


def new_file(tmp_path: Path, content: bytes = b"weights") -> Path:
    path = tmp_path / "new"
    path.write_bytes(content)
    return path


def test_what_is_put_is_there_and_no_longer_where_it_was(store: LocalBlobStore, tmp_path: Path) -> None:
    path = new_file(tmp_path)
    store.put(path, DIGEST)
    assert store.path(DIGEST).read_bytes() == b"weights"
    assert not path.exists()


def test_putting_a_blob_again_keeps_the_first(store: LocalBlobStore, tmp_path: Path) -> None:
    store.put(new_file(tmp_path), DIGEST)
    inode = store.path(DIGEST).stat().st_ino
    store.put(new_file(tmp_path), DIGEST)
    assert store.path(DIGEST).stat().st_ino == inode
    assert not (tmp_path / "new").exists()


def test_a_deleted_blob_is_gone_but_its_readers_finish(store: LocalBlobStore, tmp_path: Path) -> None:
    store.put(new_file(tmp_path), DIGEST)
    with store.path(DIGEST).open("rb") as reader:
        store.delete(DIGEST)
        store.delete(DIGEST)
        assert reader.read() == b"weights"
    with pytest.raises(FileNotFoundError):
        store.path(DIGEST)


def test_a_link_outlives_the_blob(store: LocalBlobStore, tmp_path: Path) -> None:
    store.put(new_file(tmp_path), DIGEST)
    store.link(DIGEST, tmp_path / "linked")
    assert (tmp_path / "linked").stat().st_nlink == 2
    store.delete(DIGEST)
    assert (tmp_path / "linked").read_bytes() == b"weights"


def test_a_link_to_another_filesystem_is_a_copy(
    store: LocalBlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "cross-device link")

    store.put(new_file(tmp_path), DIGEST)
    monkeypatch.setattr(os, "link", refuse)
    store.link(DIGEST, tmp_path / "copied")
    assert (tmp_path / "copied").read_bytes() == b"weights"


@pytest.mark.parametrize("call", ["mkdir", "fsync", "replace"])
def test_a_full_disk_is_said_and_leaves_no_blob(
    store: LocalBlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(NoSpace):
        store.put(new_file(tmp_path), DIGEST)
    with pytest.raises(FileNotFoundError):
        store.path(DIGEST)
