"""Runs the migrations against the registry that `app.registry.migrations` names."""

from alembic import context

from app.registry.database import Database
from app.registry.tables import Base


def run() -> None:
    database = Database(context.config.attributes["url"])
    with database.engine.execution_options(octet_writing=True).connect() as connection:
        # Batch mode: SQLite alters a table by copying it.
        context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
    database.close()


run()
