"""`octet gc`, `octet backup`, `octet restore`: for the operator, beside a running service."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from app.cli.registry import opened
from app.cli.tables import size
from app.errors import NoSpace, NotFound, OctetError, is_full


def gc(
    jobs_older_than: Annotated[int, typer.Option(metavar="DAYS", help="Forget jobs that ended so long ago.")] = 90,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Remove what nothing refers to any more; the service may go on meanwhile."""
    from app.blobs import open_store
    from app.housekeeping.garbage import collect
    from app.registry import migrations

    with opened() as (settings, database):
        migrations.check_current(database)
        found = collect(
            database,
            open_store(settings),
            settings.scratch_folder,
            jobs_older_than=timedelta(days=jobs_older_than),
            dry_run=dry_run,
        )
    typer.echo(
        f"{'Would remove' if dry_run else 'Removed'} {found.blobs} blobs ({size(found.blob_bytes)}) that nothing names,"
        f" {found.folders} folders of processes that are gone, {found.jobs} jobs that ended over {jobs_older_than} days"
        " ago."
    )


def backup(target: Annotated[Path, typer.Argument(help="The .tar file to make.", show_default=False)]) -> None:
    """Save the registry and all artifacts into one file; the service may go on meanwhile."""
    from app.blobs import open_store
    from app.housekeeping.backup import backup as save

    with opened() as (settings, database), _room_on_disk(target):
        contents = save(database, open_store(settings), settings.scratch_folder, target)
    for digest in contents.missing:
        typer.echo(f"octet: blob {digest} is named in the registry, but is not there", err=True)
    typer.echo(f"Saved {_told(contents.rows)} and {contents.blobs} blobs ({size(contents.blob_bytes)}) to {target}.")


def restore(source: Annotated[Path, typer.Argument(help="The file that `octet backup` made.")]) -> None:
    """Put a backup into an empty registry, of either kind of database, before the service starts on it."""
    from app.blobs import open_store
    from app.housekeeping.restore import restore as put_back

    if not source.is_file():
        raise NotFound(f"there is no file {source}")
    with opened() as (settings, database), _room_on_disk(settings.scratch_folder):
        contents = put_back(database, open_store(settings), settings.scratch_folder, source)
    typer.echo(f"Restored {_told(contents.rows)} and {contents.blobs} blobs ({size(contents.blob_bytes)}).")


def _told(rows: dict[str, int]) -> str:
    return ", ".join(f"{rows.get(name, 0)} {name}" for name in ("models", "variants", "datasets", "jobs"))


@contextmanager
def _room_on_disk(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise NoSpace(f"the disk of {place} is full; nothing was kept") from error
        raise OctetError(f"{error.filename or place}: {error.strerror}") from error
