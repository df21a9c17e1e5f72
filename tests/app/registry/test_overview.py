from collections.abc import Callable

from app.registry import Database, experiments, models
from app.registry.overview import overview
from app.registry.tables import Job
from tests.app.registry.conftest import new_revision
from tests.app.registry.test_experiments import new
from tests.app.web.crowd import add_models


def test_a_model_is_shown_by_its_newest_revision(database: Database) -> None:
    add_models(database, 1, made=2)
    with database.writing() as session:
        models.register(session, "model-000", new_revision(size_bytes=500))
    with database.reading() as session:
        (shown,) = overview(session)
    assert (shown.name, shown.revisions, shown.default, shown.default_version) == ("model-000", 2, "original", 1)
    assert not shown.default_is_of_newest
    assert [(row.variant, row.version, row.size_ratio) for row in shown.standings] == [("original", 4, 1.0)]


def test_figures_are_those_of_the_evaluation(database: Database) -> None:
    add_models(database, 1, made=1)
    with database.reading() as session:
        (shown,) = overview(session)
    original, made = shown.standings
    assert (original.accuracy, original.speedup, original.samples) == (0.9, None, 256)
    assert (made.variant, made.size_ratio, made.speedup, made.agreement) == ("v00", 0.3, 3.0, 0.97)
    assert (made.verdict, made.overridden) == ("accepted", False)


def test_jobs_under_way_and_a_running_experiment_are_told(database: Database, submit: Callable[..., Job]) -> None:
    add_models(database, 1, made=1)
    with database.writing() as session:
        submit(session)
        model = models.find(session, "model-000")
        arms = [
            {"variant": "original", "weight": 50, "control": True},
            {"variant": "v00", "weight": 50, "control": False},
        ]
        experiments.start(session, experiments.create(session, model, new(name="live", arms=arms)).id)
    with database.reading() as session:
        told = {each.name: (each.live_jobs, each.experiment) for each in overview(session)}
    assert told == {"model-000": (0, "live"), "resnet": (1, None)}


def test_an_empty_registry_has_nothing_to_show(database: Database) -> None:
    with database.reading() as session:
        assert overview(session) == []
