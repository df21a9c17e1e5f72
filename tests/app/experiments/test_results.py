"""From rows to what is said of them; on both databases."""

import pytest

from app.experiments import units as units_room
from app.experiments.counts import Counts
from app.experiments.definition import guardrails_of, samples_of, split_of
from app.experiments.guardrails import Guardrail
from app.experiments.results import findings, refusal, results
from app.registry import Database, experiments, models, records
from app.registry.experiments import NewExperiment
from app.registry.records import NewExposure, NewOutcome
from app.registry.tables import now
from tests.app.live_experiment import SPLIT, add_variants, keep_counts
from tests.app.registry.conftest import new_revision

UNITS = [f"user-{number}" for number in range(400)]


@pytest.fixture
def started(database: Database) -> str:
    """The id of an experiment that runs, whose split is `SPLIT`."""
    with database.writing() as session:
        models.register(session, "linear", new_revision())
    add_variants(database)
    new = NewExperiment(
        name="int8-live",
        seed="a seed",
        unit={"from": ["api_key"], "on_missing": "control"},
        arms=[
            {"variant": "original", "weight": 50, "control": True},
            {"variant": "int8", "weight": 50, "control": False},
        ],
        coverage=1.0,
        shadow=[{"variant": "int8", "sample": 0.25}],
        ramp=None,
        guardrails=[{"metric": "outcome:clicked", "margin_abs": 0.1}],
        alpha=0.05,
        auto_rollback=True,
    )
    with database.writing() as session:
        made = experiments.create(session, models.find(session, "linear"), new)
        return experiments.start(session, made.id).id


def report_units(database: Database, experiment_id: str) -> None:
    with database.writing() as session:
        records.add_outcomes(session, experiment_id, [NewOutcome("clicked", 1.0, unit=unit) for unit in UNITS])


def clicked(database: Database, experiment_id: str) -> dict[str, int]:
    """How many values of `clicked` each arm has."""
    with database.reading() as session:
        found = findings(session, experiments.find(session, experiment_id))
    return {each.variant: int(each.outcomes["clicked"].denominator) for each in found.evidence if each.outcomes}


def arms_of(units: list[str]) -> dict[str, int]:
    arms = [SPLIT.arm(unit) for unit in units]
    return {variant: arms.count(variant) for variant in ("original", "int8")}


def test_a_kept_experiment_is_what_it_was_set_up_as(database: Database, started: str) -> None:
    with database.reading() as session:
        experiment = experiments.find(session, started)
    assert split_of(experiment) == SPLIT
    assert guardrails_of(experiment) == (Guardrail("outcome:clicked", margin_abs=0.1),)
    (sample,) = samples_of(experiment)
    assert (sample.seed, sample.variant, sample.rate) == ("a seed", "int8", 0.25)


def test_outcomes_stay_with_the_arm_that_units_were_counted_in(database: Database, started: str) -> None:
    keep_counts(database, started, 200)
    report_units(database, started)
    expected = arms_of(UNITS[:200])
    assert clicked(database, started) == expected
    with database.writing() as session:
        experiments.change(session, started, etag=None, coverage=0.1)
    assert clicked(database, started) == expected
    with database.writing() as session:
        experiments.rollback(session, started, "int8", "odd")
    assert clicked(database, started) == expected


def test_of_units_too_many_to_be_remembered_the_coverage_decides(
    database: Database, started: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units_room, "LIMIT", 16)
    keep_counts(database, started, 400)
    report_units(database, started)
    assert clicked(database, started) == arms_of(UNITS)
    with database.writing() as session:
        experiments.change(session, started, etag=None, coverage=0.5)
    assert sum(clicked(database, started).values()) == pytest.approx(200, abs=50)


def test_outcomes_of_requests_are_those_of_the_arm_that_answered(database: Database, started: str) -> None:
    with database.writing() as session:
        exposures = [NewExposure(f"r{number}", "int8", number % 256, number, now()) for number in range(300)]
        records.add_exposures(session, started, exposures)
        outcomes = [NewOutcome("clicked", number % 3, request_id=f"r{number}") for number in range(400)]
        records.add_outcomes(session, started, outcomes)
    with database.reading() as session:
        control, arm = findings(session, experiments.find(session, started)).evidence
    assert control.outcomes == {}
    assert arm.outcomes["clicked"].denominator == 300
    assert arm.outcomes["clicked"].numerator == 300
    assert arm.outcomes["clicked"].clusters == 256
    # There are values of 2.
    assert not arm.outcomes["clicked"].proportion


def test_counts_of_processes_are_added_up(database: Database, started: str) -> None:
    counts = keep_counts(database, started, 100)
    with database.writing() as session:
        records.save_counts(session, started, "two", counts.to_json())
    with database.reading() as session:
        found = findings(session, experiments.find(session, started))
    for variant in ("original", "int8"):
        assert found.counts.requests(variant) == 2 * counts.requests(variant)
        assert found.counts.unit_count(variant) == counts.unit_count(variant)
    assert [each.variant for each in found.verdicts] == ["int8"]


def test_a_stopped_arm_does_not_make_a_mismatch_of_the_rest(database: Database, started: str) -> None:
    keep_counts(database, started, 2000, lost=0.5)
    with database.reading() as session:
        assert "no comparison can be trusted" in (refusal(session, experiments.find(session, started)) or "")
    with database.writing() as session:
        experiments.rollback(session, started, "int8", "odd")
    with database.reading() as session:
        assert refusal(session, experiments.find(session, started)) is None


def test_after_other_weights_there_is_no_sample_ratio(database: Database, started: str) -> None:
    keep_counts(database, started, 2000, lost=0.5)
    with database.writing() as session:
        experiments.change(session, started, etag=None, weights={"int8": 25})
    with database.reading() as session:
        experiment = experiments.find(session, started)
        assert refusal(session, experiment) is None
        ratio = results(session, experiment)["sample_ratio"]
    assert ratio["p_value"] is None
    assert "Weights were changed" in ratio["warning"]


def test_a_shadow_without_pairs_is_shown_empty(database: Database, started: str) -> None:
    counts = Counts(("original", "int8"))
    with database.writing() as session:
        records.save_counts(session, started, "one", counts.to_json())
    with database.reading() as session:
        (shadow,) = results(session, experiments.find(session, started))["shadows"]
    assert (shadow["variant"], shadow["pairs"], shadow["speedup"], shadow["savings"]) == ("int8", 0, None, [])
