"""Bringing a registry's schema up to date."""

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from app.errors import Invalid, Unavailable
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


def schema(database: Database) -> str | None:
    """The registry's schema: the last migration that it has had."""
    with database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def become(database: Database, wanted: str) -> None:
    """Give an empty registry the schema `wanted`. Raises `Invalid` for one that this code does not know."""
    config = _config(database.url)
    if wanted not in {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}:
        raise Invalid(f"schema {wanted[:80]} is not known here: it is of a newer version of Octet")
    current = schema(database)
    if current is not None and current != wanted:
        command.downgrade(config, "base")
    command.upgrade(config, wanted)


def check_current(database: Database) -> None:
    """Raises `Unavailable` when the registry's schema is not the one that this code was written for."""
    head = ScriptDirectory.from_config(_config(database.url)).get_current_head()
    current = schema(database)
    if current != head:
        raise Unavailable(f"the registry is at schema {current or 'none'}, not {head}: run `octet migrate`")


def differences(database: Database) -> list[object]:
    """What the tables in the database and in the code differ in; empty when migrations and models agree."""
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, Base.metadata))
