import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import select

from app.contracts import methods
from app.errors import Invalid, Unavailable
from app.experiments.assignment import Place
from app.experiments.counts import Counts
from app.registry import Database, experiments, jobs, migrations, models, records, variants
from app.registry.records import NewExposure, NewOutcome
from app.registry.tables import now
from tests.app.registry.conftest import new_revision
from tests.app.registry.filled import fill, reflected
from tests.app.registry.test_experiments import add_variant, new

pytestmark = pytest.mark.e2e


def test_migrations_and_models_agree(database: Database) -> None:
    assert migrations.differences(database) == []


def test_the_newest_migration_is_known_by_the_name_of_its_file() -> None:
    config = Config()
    config.set_main_option("script_location", "migrations:.")
    assert migrations.head() == ScriptDirectory.from_config(config).get_current_head()


def test_a_difference_between_migrations_and_models_is_seen(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE jobs DROP COLUMN progress")
    assert "progress" in str(migrations.differences(database))


def test_migrations_go_back_and_forth(database: Database, registry_url: str) -> None:
    command.downgrade(migrations._config(registry_url), "base")
    migrations.upgrade(registry_url)
    assert migrations.differences(database) == []


def test_going_back_before_searches_keeps_jobs_and_what_refers_to_them(database: Database, registry_url: str) -> None:
    """SQLite alters a table by replacing it, which takes the rows along that refer to the old one."""
    with database.writing() as session:
        model = models.register(session, "resnet", new_revision())[0].model
        jobs.submit(
            session,
            model=model,
            revision=models.find_revision(session, model),
            method=methods.find("fp16"),
            options={},
            dataset=None,
        )
    tables = ("models", "revisions", "variants", "jobs", "job_events")

    def counts() -> list[int]:
        with database.engine.connect() as connection:
            return [connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one() for name in tables]

    before = counts()
    assert before == [1] * len(tables)
    command.downgrade(migrations._config(registry_url), "0003")
    assert counts() == before
    migrations.upgrade(registry_url)
    assert counts() == before
    with database.reading() as session:
        (job,) = jobs.listed(session)
        assert (job.detail, job.checkpoint_digest, job.revision.operator_nodes) == (None, None, None)


def test_variants_from_before_padding_are_not_padded(database: Database, registry_url: str) -> None:
    with database.writing() as session:
        revision, _ = models.register(session, "encoder", new_revision())
        variants.original_of(session, revision).padding = {"inputs": {"ids": 1}, "outputs": {}}
    command.downgrade(migrations._config(registry_url), "0004")
    migrations.upgrade(registry_url)
    with database.reading() as session:
        (variant,) = variants.listed(session, models.find(session, "encoder"))
        assert variant.padding is None
        assert not variants.may_be_padded(variant)


def test_what_experiments_counted_before_labels_stays(database: Database, registry_url: str) -> None:
    with database.writing() as session:
        revision, _ = models.register(session, "resnet", new_revision())
        add_variant(session, revision, "int8")
        made = experiments.create(session, revision.model, new()).id
        experiments.start(session, made)
        counted = Counts(("original", "int8"))
        counted.answered(Place("int8", 3, 30), 1000)
        old = {key: value for key, value in counted.to_json().items() if key != "outcomes"}
        records.save_counts(session, made, "a process", old)
        records.add_exposures(session, made, [NewExposure("r1", "int8", 3, 30, now())])
        records.add_outcomes(session, made, [NewOutcome("clicked", 1.0, request_id="r1")])
    command.downgrade(migrations._config(registry_url), "0007")
    migrations.upgrade(registry_url)
    with database.reading() as session:
        experiment = experiments.find(session, made)
        assert (experiment.state, experiment.closed_at) == ("running", None)
        (counts,) = records.counts_of(session, made)
        assert Counts.from_json(counts).to_json() == counted.to_json()
        assert [row.count for row in records.outcome_sums(session, made)] == [1]


def test_an_unmigrated_registry_is_refused_with_the_command_to_run(registry_url: str) -> None:
    database = Database(registry_url)
    with pytest.raises(Unavailable, match="octet migrate"):
        migrations.check_current(database)
    database.close()


def test_upgrading_twice_changes_nothing(database: Database, registry_url: str) -> None:
    migrations.upgrade(registry_url)
    migrations.check_current(database)


REVISIONS = [
    script.revision
    for script in ScriptDirectory.from_config(migrations._config("sqlite://")).walk_revisions()
    if not script.is_head
]


@pytest.mark.parametrize("revision", REVISIONS)
def test_every_older_registry_comes_forward_with_all_of_its_rows(registry_url: str, revision: str) -> None:
    database = Database(registry_url)
    migrations.become(database, revision)
    with database.engine.begin() as connection:
        fill(connection, reflected(connection))
        before = {table.name: connection.execute(select(table)).mappings().all() for table in reflected(connection)}
    migrations.upgrade(registry_url)
    assert migrations.differences(database) == []
    with database.engine.connect() as connection:
        for table in reflected(connection):
            after = connection.execute(select(table)).mappings().all()
            kept = [{name: row[name] for name in row if name in table.columns} for row in before.get(table.name, [])]
            assert [{name: row[name] for name in old} for row, old in zip(after, kept, strict=True)] == kept
    database.close()


def test_an_empty_registry_takes_any_schema_that_is_known(database: Database) -> None:
    migrations.become(database, "0003")
    assert migrations.schema(database) == "0003"
    migrations.become(database, "0005")
    assert migrations.schema(database) == "0005"
    with pytest.raises(Invalid, match="newer version"):
        migrations.become(database, "9999")
