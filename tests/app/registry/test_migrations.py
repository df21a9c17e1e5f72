import pytest
from alembic import command

from app.errors import Unavailable
from app.registry import Database, migrations


def test_migrations_and_models_agree(database: Database) -> None:
    assert migrations.differences(database) == []


def test_a_difference_between_migrations_and_models_is_seen(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE jobs DROP COLUMN progress")
    assert "progress" in str(migrations.differences(database))


def test_migrations_go_back_and_forth(database: Database, registry_url: str) -> None:
    command.downgrade(migrations._config(registry_url), "base")
    migrations.upgrade(registry_url)
    assert migrations.differences(database) == []


def test_an_unmigrated_registry_is_refused_with_the_command_to_run(registry_url: str) -> None:
    database = Database(registry_url)
    with pytest.raises(Unavailable, match="octet migrate"):
        migrations.check_current(database)
    database.close()


def test_upgrading_twice_changes_nothing(database: Database, registry_url: str) -> None:
    migrations.upgrade(registry_url)
    migrations.check_current(database)
