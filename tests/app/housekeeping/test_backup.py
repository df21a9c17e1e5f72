import io
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.errors import Conflict, Invalid
from app.housekeeping import backup as backups
from app.housekeeping.backup import backup
from app.housekeeping.restore import restore
from app.registry import Database, calibrations, migrations, models
from app.registry.dump import check_empty, snapshot
from tests.app.housekeeping.conftest import Home

Upload = Callable[[str, bytes], str]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Home:
    return Home(tmp_path / "elsewhere")


@pytest.fixture
def new(tmp_path: Path) -> Iterator[Database]:
    """A registry that has not even been migrated."""
    database = Database(f"sqlite:///{tmp_path / 'new.sqlite3'}")
    yield database
    database.close()


@pytest.fixture
def saved(database: Database, home: Home, upload: Upload, tmp_path: Path) -> Path:
    """A backup of two models, a blob that nothing names not in it."""
    upload("resnet", b"weights")
    upload("bert", b"more weights" * 100_000)
    home.new_blob(b"nobody's")
    with database.writing() as session:
        calibrations.keep(session, "key", model_digest="0" * 64, dataset_digest="1" * 64, statistics=b"\0\1\2")
    target = tmp_path / "saved.tar"
    backup(database, home.blobs, home.scratch, target)
    return target


def rows(database: Database) -> dict[str, list[bytes]]:
    with snapshot(database) as held:
        return {name: list(lines) for name, lines in held.tables()}


def test_what_was_saved_is_restored(
    database: Database, new: Database, home: Home, elsewhere: Home, saved: Path
) -> None:
    contents = restore(new, elsewhere.blobs, elsewhere.scratch, saved)
    assert (contents.blobs, contents.rows["models"], contents.missing) == (2, 2, [])
    assert rows(new) == rows(database)
    assert set(elsewhere.contents().values()) == {b"weights", b"more weights" * 100_000}
    assert list(elsewhere.scratch.iterdir()) == list(home.scratch.iterdir()) == []


def test_a_blob_that_is_deleted_while_it_is_saved_is_in_the_backup(
    database: Database,
    new: Database,
    home: Home,
    elsewhere: Home,
    upload: Upload,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upload("resnet", b"weights")
    target = elsewhere.scratch / "saved.tar"

    write = backups._write

    def after_deletion(archive: tarfile.TarFile, held: Any) -> Any:
        for digest in held.digests:
            home.blobs.delete(digest)
        return write(archive, held)

    monkeypatch.setattr(backups, "_write", after_deletion)
    backup(database, home.blobs, home.scratch, target)
    restore(new, elsewhere.blobs, elsewhere.scratch, target)
    assert list(elsewhere.contents().values()) == [b"weights"]


def test_a_backup_of_an_older_schema_comes_forward(
    database: Database, new: Database, home: Home, elsewhere: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrations.become(new, "0006")
    with new.engine.execution_options(octet_writing=True).begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO models (name, next_version, created_at) VALUES ('old', 1, '2026-01-01 00:00:00.000000')"
        )
    monkeypatch.setattr(migrations, "check_current", lambda _: None)
    monkeypatch.setattr("app.registry.dump._tables", lambda: [t for t in _reflected(new) if t.name != "workers"])
    target = tmp_path / "old.tar"
    backup(new, home.blobs, home.scratch, target)
    monkeypatch.undo()
    restore(database, elsewhere.blobs, elsewhere.scratch, target)
    migrations.check_current(database)
    with database.reading() as session:
        assert [model.name for model in models.listed(session)] == ["old"]


def _reflected(database: Database):  # type: ignore[no-untyped-def]
    from tests.app.registry.filled import reflected

    with database.engine.connect() as connection:
        return reflected(connection)


def test_a_blob_that_is_missing_is_told_and_does_not_keep_the_rest_from_being_saved(
    database: Database, home: Home, upload: Upload, tmp_path: Path
) -> None:
    upload("bert", b"weights")
    lost = upload("resnet", b"lost")
    home.blobs.delete(lost)
    contents = backup(database, home.blobs, home.scratch, tmp_path / "saved.tar")
    assert (contents.blobs, contents.missing) == (1, [lost])


def test_a_backup_replaces_no_file(database: Database, home: Home, tmp_path: Path) -> None:
    target = tmp_path / "saved.tar"
    target.write_text("mine")
    with pytest.raises(Conflict, match="exists"):
        backup(database, home.blobs, home.scratch, target)
    assert target.read_text() == "mine"


def test_a_backup_that_cannot_be_written_leaves_nothing(database: Database, home: Home, upload: Upload) -> None:
    upload("resnet", b"weights")
    shutil.rmtree(home.scratch)
    home.scratch.mkdir()
    with pytest.raises(OSError, match="No such file"):
        backup(database, home.blobs, home.scratch, home.scratch / "no" / "saved.tar")
    assert list(home.scratch.iterdir()) == []


def test_a_registry_that_holds_something_is_left_alone(
    database: Database, home: Home, elsewhere: Home, saved: Path
) -> None:
    before = rows(database)
    with pytest.raises(Conflict, match="not empty"):
        restore(database, home.blobs, elsewhere.scratch, saved)
    assert rows(database) == before


def rewritten(saved: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """The archive with other content of its entries, or without those that become None."""
    with tarfile.open(saved) as archive:
        entries = [(entry.name, archive.extractfile(entry).read()) for entry in archive]  # type: ignore[union-attr]
    with tarfile.open(saved, "w") as archive:
        for name, content in entries:
            changed = change(name, content)
            if changed is not None:
                entry = tarfile.TarInfo(name)
                entry.size = len(changed)
                archive.addfile(entry, io.BytesIO(changed))


DAMAGES: dict[str, Callable[[str, bytes], bytes | None]] = {
    "has no end.json": lambda name, content: None if name == "end.json" else content,
    "has no manifest.json": lambda name, content: None if name == "manifest.json" else content,
    "manifest.json is damaged": lambda name, content: b"{}" if name == "manifest.json" else content,
    "format 9": lambda name, content: content.replace(b'"format": 1', b'"format": 9'),
    "newer version": lambda name, content: content.replace(b'"schema_revision": "0', b'"schema_revision": "9'),
    "does not have that digest": lambda name, content: content[:-1] + b"?" if name.startswith("blobs/") else content,
    "1 of its 2 blobs": lambda name, content: None if content == b"weights" else content,
    "has no registry/models.jsonl": lambda name, content: None if name == "registry/models.jsonl" else content,
    "all of its rows": lambda name, content: b"" if name == "registry/calibrations.jsonl" else content,
    "do not fit together": lambda name, content: b"" if name == "registry/models.jsonl" else content,
    "does not fit this schema": lambda name, content: content.replace(b'"next_version"', b'"next"'),
}


@pytest.mark.parametrize("told", DAMAGES)
def test_a_damaged_backup_is_refused_and_leaves_nothing(new: Database, elsewhere: Home, saved: Path, told: str) -> None:
    rewritten(saved, DAMAGES[told])
    with pytest.raises(Invalid, match=told):
        restore(new, elsewhere.blobs, elsewhere.scratch, saved)
    assert elsewhere.contents() == {}
    assert list(elsewhere.scratch.iterdir()) == []
    if migrations.schema(new) is not None:
        check_empty(new)


@pytest.mark.parametrize("part", [0.0, 0.5, 0.999])
def test_a_part_of_a_backup_is_refused(new: Database, elsewhere: Home, saved: Path, part: float) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(len(whole.rstrip(b"\0")) * part)])
    with pytest.raises(Invalid, match="backup"):
        restore(new, elsewhere.blobs, elsewhere.scratch, saved)
    assert elsewhere.contents() == {}
