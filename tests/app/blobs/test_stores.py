from pathlib import Path

import pytest

from app.blobs import open_store
from app.blobs.stores import STORES
from app.errors import Invalid
from app.settings import Settings
from tests.blob_stores import SqliteBlobStore


def test_by_default_blobs_are_files_under_home(tmp_path: Path) -> None:
    store = open_store(Settings(home=tmp_path / "a home"))
    (tmp_path / "new").write_bytes(b"weights")
    store.put(tmp_path / "new", "ab" + "0" * 62)
    assert (tmp_path / "a home" / "blobs" / "ab" / ("ab" + "0" * 62)).read_bytes() == b"weights"


def test_a_url_names_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTET_BLOBS", f"file://{tmp_path}/other%20disk")
    store = open_store(Settings(home=tmp_path / "home"))
    (tmp_path / "new").write_bytes(b"weights")
    store.put(tmp_path / "new", "ab" + "0" * 62)
    assert (tmp_path / "other disk" / "ab").is_dir()


def test_a_row_in_the_table_makes_a_store(sqlite_settings: Settings) -> None:
    assert isinstance(open_store(sqlite_settings), SqliteBlobStore)


@pytest.mark.parametrize("url", ["s4://secret@bucket/folder", "/srv/blobs", "blobs"])
def test_an_unknown_scheme_is_refused_with_those_that_exist(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STORES, "sqlite", "tests.blob_stores:SqliteBlobStore")
    with pytest.raises(Invalid) as error:
        open_store(Settings(home=tmp_path, blobs=url))
    assert error.value.detail.startswith("OCTET_BLOBS: unknown URL scheme '")
    assert error.value.detail.endswith("'; expected one of file://, sqlite://")
    assert "secret" not in error.value.detail


@pytest.mark.parametrize("url", ["file://host/folder", "file:relative", "file:///srv/blobs?size=1"])
def test_a_file_url_must_name_an_absolute_folder_of_this_machine(url: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="absolute path"):
        open_store(Settings(home=tmp_path, blobs=url))


@pytest.mark.parametrize("url", ["file:///dev/null/blobs", "file:///proc/blobs", "file:///srv/%00", "file://[blobs"])
def test_a_folder_that_cannot_be_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"^OCTET_BLOBS: "):
        open_store(Settings(home=tmp_path, blobs=url))
