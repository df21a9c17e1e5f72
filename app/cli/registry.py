"""The registry of this machine, for commands that work on it without the service."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.registry import Database
    from app.settings import Settings


@contextmanager
def opened() -> "Iterator[tuple[Settings, Database]]":
    """The settings in force, and their registry for as long as the block lasts; migrated or not."""
    from app.registry import Database
    from app.settings import Settings

    settings = Settings()
    settings.make_folders()
    database = Database(settings.registry_url)
    try:
        yield settings, database
    finally:
        database.close()
