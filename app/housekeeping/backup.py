"""Backups of a running service: the registry at one moment, and the blobs that it named then."""

import io
import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from app import __version__
from app.blobs import BlobStore, linked
from app.errors import Conflict, MissingBlob
from app.housekeeping.archive import BLOBS, END, FORMAT, MANIFEST, REGISTRY, ROWS, Contents, Manifest
from app.registry import Database, migrations
from app.registry.database import lock_blobs
from app.registry.dump import Snapshot, snapshot
from app.registry.references import referenced
from app.registry.tables import now
from app.scratch import private_folder


def backup(database: Database, blobs: BlobStore, scratch: Path, target: Path) -> Contents:
    """Write a backup to `target`, which appears when it is whole.

    The service goes on: only while the blobs are linked to, some microseconds each, uploads and the ends of jobs wait.
    `scratch` should lie on the disk of the blobs. Raises `Conflict` where there is a `target`, and `OSError`.
    """
    if target.exists():
        raise Conflict(f"{target} exists: name a new file")
    migrations.check_current(database)
    partial = target.with_name(f"{target.name}.partial")
    try:
        with (
            private_folder(scratch) as folder,
            _held(database, blobs, folder) as held,
            tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as archive,
        ):
            contents = _write(archive, held)
        with partial.open("rb") as written:
            os.fsync(written)
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)
    return contents


@dataclass(frozen=True)
class _Held:
    """One state of the registry, whose blobs have a second name in `folder`, so that none goes meanwhile."""

    snapshot: Snapshot
    schema_revision: str
    folder: Path
    digests: list[str]
    missing: list[str]


@contextmanager
def _held(database: Database, blobs: BlobStore, folder: Path) -> Iterator[_Held]:
    with ExitStack() as stack:
        # Before the lock, since a store may have to fetch its blobs: few are left to fetch under it.
        with database.reading() as session:
            held = _lease(stack, blobs, folder, referenced(session))
        with database.writing() as session:
            lock_blobs(session)
            state = stack.enter_context(snapshot(database))
            named = state.digests()
            held |= _lease(stack, blobs, folder, named - held)
        yield _Held(state, migrations.schema(database) or "", folder, sorted(named & held), sorted(named - held))


def _lease(stack: ExitStack, blobs: BlobStore, folder: Path, digests: set[str]) -> set[str]:
    """Link blobs into `folder` until `stack` closes; returns the digests of those that are there."""
    held = set()
    for digest in digests:
        with suppress(MissingBlob):
            stack.enter_context(linked(blobs, {folder / digest: digest}))
            held.add(digest)
    return held


def _write(archive: tarfile.TarFile, held: _Held) -> Contents:
    manifest = Manifest(format=FORMAT, octet=__version__, schema_revision=held.schema_revision, created_at=now())
    _add(archive, MANIFEST, manifest.model_dump_json(indent=2).encode())
    blob_bytes = 0
    for digest in held.digests:
        blob = held.folder / digest
        blob_bytes += blob.stat().st_size
        archive.add(blob, f"{BLOBS}{digest}", filter=_anonymous)
    rows = {}
    for name, lines in held.snapshot.tables():
        # A file's size comes before its content.
        with tempfile.TemporaryFile(dir=held.folder) as spool:
            rows[name] = sum(1 for line in lines if spool.write(line))
            entry = tarfile.TarInfo(f"{REGISTRY}{name}{ROWS}")
            entry.size = spool.tell()
            spool.seek(0)
            archive.addfile(entry, spool)
    contents = Contents(blobs=len(held.digests), blob_bytes=blob_bytes, rows=rows, missing=held.missing)
    _add(archive, END, contents.model_dump_json(indent=2).encode())
    return contents


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Neither whose it was nor the second name that it shares with the blob."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
