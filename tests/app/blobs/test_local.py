"""What a folder does beyond what every store does."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from app.blobs import linked
from app.blobs.local import LocalBlobStore
from app.errors import MissingBlob, NoSpace
from app.settings import Settings

DIGEST = "ab" + "0" * 62


@pytest.fixture
def store(tmp_path: Path) -> LocalBlobStore:
    return LocalBlobStore(tmp_path / "blobs")


def _failing(number: int):  # type: ignore[no-untyped-def]
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_putting_a_blob_again_keeps_the_first(store: LocalBlobStore, new_file: Path) -> None:
    store.put(new_file, DIGEST)
    with store.materialize(DIGEST) as path:
        inode = path.stat().st_ino
        new_file.write_bytes(b"weights")
        store.put(new_file, DIGEST)
        assert path.stat().st_ino == inode


def test_the_leased_file_and_links_to_it_are_the_blob_itself(
    store: LocalBlobStore, new_file: Path, tmp_path: Path
) -> None:
    store.put(new_file, DIGEST)
    target = tmp_path / "linked"
    with linked(store, {target: DIGEST}), store.materialize(DIGEST) as path:
        assert path.samefile(target)


def test_a_link_to_another_file_system_is_a_copy(
    store: LocalBlobStore, new_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(new_file, DIGEST)
    monkeypatch.setattr(os, "link", _failing(errno.EXDEV))
    with linked(store, {tmp_path / "copied": DIGEST}):
        assert (tmp_path / "copied").read_bytes() == b"weights"


def test_a_blob_that_is_deleted_before_it_is_linked_is_missing(
    store: LocalBlobStore, new_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(new_file, DIGEST)
    monkeypatch.setattr(os, "link", _failing(errno.ENOENT))
    with pytest.raises(MissingBlob), linked(store, {tmp_path / "linked": DIGEST}):
        pass


@pytest.mark.parametrize(("number", "expected"), [(errno.ENOENT, MissingBlob), (errno.ENOSPC, NoSpace)])
def test_a_copy_that_fails_says_why(
    store: LocalBlobStore,
    new_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    expected: type[Exception],
) -> None:
    store.put(new_file, DIGEST)
    monkeypatch.setattr(os, "link", _failing(errno.EXDEV))
    monkeypatch.setattr(shutil, "copyfile", _failing(number))
    with pytest.raises(expected), linked(store, {tmp_path / "copied": DIGEST}):
        pass


@pytest.mark.parametrize("call", ["mkdir", "fsync", "replace"])
def test_a_full_disk_is_an_error_and_leaves_no_blob(
    store: LocalBlobStore, new_file: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(os, call, _failing(errno.ENOSPC))
    with pytest.raises(NoSpace):
        store.put(new_file, DIGEST)
    assert not store.exists(DIGEST)


@pytest.fixture
def other_disk(monkeypatch: pytest.MonkeyPatch, new_file: Path) -> None:
    """The new file is on another file system than the store."""
    replace = os.replace

    def refuse(source: Path, target: Path) -> None:
        if source == new_file:
            raise OSError(errno.EXDEV, "cross-device link")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)


@pytest.mark.usefixtures("other_disk")
def test_a_file_of_another_file_system_is_copied_in(store: LocalBlobStore, new_file: Path, tmp_path: Path) -> None:
    killed = tmp_path / "blobs" / f"gateway-{os.uname().nodename}-{2**22 + 1}-0"
    killed.mkdir()
    store.put(new_file, DIGEST)
    with store.materialize(DIGEST) as path:
        assert path.read_bytes() == b"weights"
        assert path.stat().st_mode & 0o222 == 0
    assert not new_file.exists()
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == ["ab"]


@pytest.mark.usefixtures("other_disk")
def test_a_full_disk_leaves_no_part_of_a_copy(
    store: LocalBlobStore, new_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.blobs.local.shutil.copy", _failing(errno.ENOSPC))
    with pytest.raises(NoSpace):
        store.put(new_file, DIGEST)
    assert not store.exists(DIGEST)
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == ["ab"]


def test_a_folder_on_the_disk_of_the_scratch_folder_has_nothing_to_change(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    settings.make_folders()
    assert LocalBlobStore(tmp_path / "blobs").diagnose(settings) is None
    if os.stat("/dev/shm").st_dev != tmp_path.stat().st_dev:
        trouble = LocalBlobStore(Path("/dev/shm")).diagnose(settings)
        assert trouble is not None
        assert "different disks" in trouble


def test_a_folder_that_cannot_be_written_to_is_told(
    store: LocalBlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "cannot be written to" in (store.diagnose(Settings(home=tmp_path)) or "")
