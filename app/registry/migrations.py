"""Bringing a registry's schema up to date."""

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from app.errors import Unavailable
from app.registry.database import Database
from app.registry.tables import Base


def _config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", "migrations:.")
    config.attributes["url"] = url
    return config


def upgrade(url: str) -> None:
    """Run every migration that the registry at `url` has not had."""
    command.upgrade(_config(url), "head")


def check_current(database: Database) -> None:
    """Raises `Unavailable` when the registry's schema is not the one that this code was written for."""
    head = ScriptDirectory.from_config(_config(database.url)).get_current_head()
    with database.engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    if current != head:
        raise Unavailable(f"the registry is at schema {current or 'none'}, not {head}: run `octet migrate`")


def differences(database: Database) -> list[object]:
    """What the tables in the database and in the code differ in; empty when migrations and models agree."""
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, Base.metadata))
