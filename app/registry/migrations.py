"""Bringing a registry's schema up to date.

Alembic is imported where a schema is changed: every process checks its schema when it starts, which takes no Alembic.
"""

from importlib.resources import files
from typing import TYPE_CHECKING

from sqlalchemy import inspect, text

from app.errors import Invalid, Unavailable
from app.registry.database import Database
from app.registry.tables import Base

if TYPE_CHECKING:
    from alembic.config import Config


def _config(url: str) -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "migrations:.")
    config.attributes["url"] = url
    return config


def upgrade(url: str) -> None:
    """Run every migration that the registry at `url` has not had."""
    from alembic import command

    command.upgrade(_config(url), "head")


def head() -> str:
    """The revision of the newest migration, with which the names of their files begin."""
    scripts = (script.name for script in (files("migrations") / "versions").iterdir())
    return max(name.partition("_")[0] for name in scripts if name[0].isdigit())


def schema(database: Database) -> str | None:
    """The registry's schema: the last migration that it has had."""
    with database.engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return revision


def become(database: Database, wanted: str) -> None:
    """Give an empty registry the schema `wanted`. Raises `Invalid` for one that this code does not know."""
    from alembic import command
    from alembic.script import ScriptDirectory

    config = _config(database.url)
    if wanted not in {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}:
        raise Invalid(f"schema {wanted[:80]} is not known here: it is of a newer version of Octet")
    current = schema(database)
    if current is not None and current != wanted:
        command.downgrade(config, "base")
    command.upgrade(config, wanted)


def check_current(database: Database) -> None:
    """Raises `Unavailable` when the registry's schema is not the one that this code was written for."""
    current, wanted = schema(database), head()
    if current != wanted:
        raise Unavailable(f"the registry is at schema {current or 'none'}, not {wanted}: run `octet migrate`")


def differences(database: Database) -> list[object]:
    """What the tables in the database and in the code differ in; empty when migrations and models agree."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, Base.metadata))
