"""A backup goes into an empty registry: all of it, or nothing."""

import hashlib
import re
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TypeVar

from pydantic import BaseModel, ValidationError

from app.blobs import BlobStore
from app.errors import Invalid
from app.housekeeping.archive import BLOBS, END, FORMAT, MANIFEST, REGISTRY, ROWS, Contents, Manifest
from app.intake.deposit import deposit
from app.registry import Database, IntegrityError, migrations
from app.registry.dump import check_empty, load
from app.scratch import private_folder

_DIGEST = re.compile("[0-9a-f]{64}")
_PIECE_BYTES = 1 << 20
#: Of what is read whole: the manifest and the end.
_SMALL_BYTES = 1 << 20

Model = TypeVar("Model", bound=BaseModel)


def restore(database: Database, blobs: BlobStore, scratch: Path, source: Path) -> Contents:
    """Put what the backup `source` holds into the registry, whose schema is then the newest.

    Every blob is compared with its digest before anything is kept. Raises `Conflict` when the registry is not empty,
    and `Invalid` for a file that is no backup, not whole or damaged; the registry stays empty.
    """
    try:
        with tarfile.open(source, "r:") as archive:
            return _restore(database, blobs, scratch, archive)
    except tarfile.TarError as error:
        raise Invalid(f"{source} is no backup, or damaged: {error}") from error


def _restore(database: Database, blobs: BlobStore, scratch: Path, archive: tarfile.TarFile) -> Contents:
    entries = {entry.name: entry for entry in archive if entry.isfile()}
    manifest = _parsed(archive, entries, MANIFEST, Manifest)
    if manifest.format != FORMAT:
        raise Invalid(f"the backup has format {manifest.format}, and this version of Octet reads {FORMAT}")
    contents = _parsed(archive, entries, END, Contents)
    if migrations.schema(database) is not None:
        check_empty(database)
    with private_folder(scratch) as folder:
        files = {digest: _checked(archive, entry, digest, folder) for digest, entry in _blobs(entries)}
        if len(files) != contents.blobs:
            raise Invalid(f"the backup has {len(files)} of its {contents.blobs} blobs")
        migrations.become(database, manifest.schema_revision)
        try:
            with deposit(database, blobs, files) as session, ExitStack() as stack:
                tables = [
                    (name, stack.enter_context(_opened(archive, entries, f"{REGISTRY}{name}{ROWS}")))
                    for name in contents.rows
                ]
                if load(session, tables) != contents.rows:
                    raise Invalid("the backup does not have all of its rows")
        except (IntegrityError, ValueError) as error:
            raise Invalid(f"the backup's rows do not fit together: {error}") from error
        finally:
            migrations.upgrade(database.url)
    return contents


def _blobs(entries: Mapping[str, tarfile.TarInfo]) -> Iterator[tuple[str, tarfile.TarInfo]]:
    for name, entry in entries.items():
        digest = name.removeprefix(BLOBS)
        if name.startswith(BLOBS) and _DIGEST.fullmatch(digest):
            yield digest, entry


def _checked(archive: tarfile.TarFile, entry: tarfile.TarInfo, digest: str, folder: Path) -> Path:
    """The blob as a file in `folder`."""
    target, sha256 = folder / digest, hashlib.sha256()
    source = archive.extractfile(entry)
    assert source is not None
    with source, target.open("wb") as written:
        while piece := source.read(_PIECE_BYTES):
            sha256.update(piece)
            written.write(piece)
    if sha256.hexdigest() != digest:
        raise Invalid(f"the backup is damaged: blob {digest} does not have that digest")
    return target


def _parsed(archive: tarfile.TarFile, entries: Mapping[str, tarfile.TarInfo], name: str, kind: type[Model]) -> Model:
    with _opened(archive, entries, name) as source:
        try:
            return kind.model_validate_json(source.read(_SMALL_BYTES))
        except ValidationError as error:
            raise Invalid(f"the backup's {name} is damaged: {error}") from error


def _opened(archive: tarfile.TarFile, entries: Mapping[str, tarfile.TarInfo], name: str) -> IO[bytes]:
    source = archive.extractfile(entries[name]) if name in entries else None
    if source is None:
        raise Invalid(f"this is no backup, or not the whole of one: it has no {name}")
    return source
