"""What every blob store must do. A new store joins with one row in the `store` fixture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.blobs import BlobStore, linked
from app.errors import MissingBlob

DIGEST = "ab" + "0" * 62
OTHER = "cd" + "1" * 62


@pytest.fixture
def filled(store: BlobStore, new_file: Path) -> BlobStore:
    store.put(new_file, DIGEST)
    return store


def test_a_blob_that_was_put_is_in_the_store_and_its_file_is_gone(filled: BlobStore, new_file: Path) -> None:
    assert filled.exists(DIGEST)
    assert filled.size(DIGEST) == 7
    assert list(filled.digests()) == [DIGEST]
    assert not new_file.exists()


def test_a_blob_can_be_put_again(filled: BlobStore, new_file: Path) -> None:
    new_file.write_bytes(b"weights")
    filled.put(new_file, DIGEST)
    assert not new_file.exists()
    assert list(filled.digests()) == [DIGEST]


@pytest.mark.parametrize(("start", "stop", "expected"), [(0, None, b"weights"), (2, None, b"ights"), (1, 4, b"eig")])
def test_a_stream_begins_at_start_and_reaches_stop(
    filled: BlobStore, start: int, stop: int | None, expected: bytes
) -> None:
    with filled.open(DIGEST, start, stop) as stream:
        assert stream.read(len(expected)) == expected


def test_a_lease_is_a_read_only_file_with_the_content(filled: BlobStore) -> None:
    with filled.materialize(DIGEST) as first, filled.materialize(DIGEST) as second:
        assert first.read_bytes() == second.read_bytes() == b"weights"
        assert first.stat().st_mode & 0o222 == 0
    assert filled.exists(DIGEST)


def test_a_deleted_blob_is_missing_and_may_be_deleted_again(filled: BlobStore) -> None:
    filled.delete(DIGEST)
    filled.delete(DIGEST)
    assert not filled.exists(DIGEST)
    assert list(filled.digests()) == []


def test_an_open_stream_outlives_the_blob(filled: BlobStore) -> None:
    with filled.open(DIGEST) as stream:
        filled.delete(DIGEST)
        assert stream.read() == b"weights"


def test_links_are_valid_until_the_block_ends_even_when_the_blob_is_deleted(filled: BlobStore, tmp_path: Path) -> None:
    tmp_path.joinpath("second").write_bytes(b"more weights")
    filled.put(tmp_path / "second", OTHER)
    files = {tmp_path / "model.onnx": DIGEST, tmp_path / "model.data": OTHER}
    with linked(filled, files):
        filled.delete(DIGEST)
        assert [path.read_bytes() for path in files] == [b"weights", b"more weights"]


def _materialize(store: BlobStore) -> None:
    with store.materialize(DIGEST):
        pass


def _link(store: BlobStore) -> None:
    with linked(store, {Path("never"): DIGEST}):
        pass


@pytest.mark.parametrize(
    "call", [lambda store: store.size(DIGEST), lambda store: store.open(DIGEST), _materialize, _link]
)
def test_what_is_missing_is_one_exception(store: BlobStore, call: Callable[[BlobStore], Any]) -> None:
    with pytest.raises(MissingBlob, match=DIGEST):
        call(store)
