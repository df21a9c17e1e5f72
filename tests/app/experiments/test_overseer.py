"""What the overseer does about what was counted: each test keeps counts, and has it look once."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.experiments.counts import Counts
from app.experiments.definition import split_of
from app.experiments.overseer import Overseer
from app.registry import Database, audit, experiments, models, records
from app.registry.tables import Experiment, now
from tests import registries
from tests.app.registry.conftest import new_revision
from tests.app.registry.test_experiments import add_variant, new

ERRORS = {"metric": "error_rate", "margin_abs": 0.01}
RAMP = {"steps": [0.1, 0.5, 1.0], "hold_s": 60, "min_units": 100}


class House:
    """A registry with one running experiment."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        url = f"sqlite:///{folder / 'registry.sqlite3'}"
        registries.migrate(url)
        self.database = Database(url)
        self.overseer = Overseer(self.database)
        with self.database.writing() as session:
            revision, _ = models.register(session, "resnet", new_revision())
            add_variant(session, revision, "int8")
            self.id = experiments.create(session, revision.model, new(**changes)).id
            experiments.start(session, self.id)

    def experiment(self) -> Experiment:
        with self.database.reading() as session:
            return experiments.find(session, self.id)

    def count(self, units: int, *, failing: float = 0.0) -> None:
        """Requests of so many units, of which `int8` fails a part."""
        counts, random = Counts(("original", "int8")), np.random.default_rng(0)
        split = split_of(self.experiment())
        for number in range(units):
            place = split.place(f"unit-{number}")
            if place.variant is None:
                continue
            if place.variant == "int8" and random.random() < failing:
                counts.failed(place)
            else:
                counts.answered(place, int(random.lognormal(14, 0.3)))
        with self.database.writing() as session:
            records.save_counts(session, self.id, "p", counts.to_json())

    def pass_time(self, seconds: float) -> None:
        with self.database.writing() as session:
            experiments.find(session, self.id).step_at = now() - timedelta(seconds=seconds)

    def reasons(self) -> list[str]:
        with self.database.reading() as session:
            events = experiments.events_after(session, self.id)
            return [event.detail["reason"] for event in events if event.kind == "rolled_back"]


@pytest.fixture
def houses(tmp_path: Path) -> Iterator[Any]:
    made: list[House] = []

    def make(**changes: Any) -> House:
        made.append(House(tmp_path, **changes))
        return made[-1]

    yield make
    for house in made:
        house.database.close()


def test_an_arm_that_breaks_a_guardrail_is_stopped_and_the_timeline_says_why(houses: Any) -> None:
    house = houses(guardrails=[ERRORS])
    house.count(3000, failing=0.2)
    house.overseer.look()
    house.overseer.look()
    assert house.experiment().state == "rolled_back"
    (reason,) = house.reasons()
    assert "'int8'" in reason
    assert "'error_rate'" in reason
    with house.database.reading() as session:
        entry = audit.listed(session, noun="experiment", limit=1)[0]
    assert (entry.by, entry.key_id, entry.verb) == ("guardrail", None, "rolled back")


def test_an_arm_that_holds_goes_on(houses: Any) -> None:
    house = houses(guardrails=[ERRORS])
    house.count(3000)
    house.overseer.look()
    assert house.experiment().state == "running"
    assert not any(arm["stopped"] for arm in house.experiment().arms)


def test_without_auto_rollback_nothing_is_stopped(houses: Any) -> None:
    house = houses(guardrails=[ERRORS], auto_rollback=False)
    house.count(3000, failing=0.2)
    house.overseer.look()
    assert house.experiment().state == "running"


def test_a_ramp_takes_its_steps_one_by_one_when_their_time_and_units_have_come(houses: Any) -> None:
    house = houses(ramp=RAMP, coverage=0.1)
    house.count(5000)
    house.overseer.look()
    assert house.experiment().coverage == 0.1
    for coverage in (0.5, 1.0, 1.0):
        house.pass_time(61)
        house.overseer.look()
        assert house.experiment().coverage == coverage


def test_a_ramp_waits_for_units(houses: Any) -> None:
    house = houses(ramp=RAMP, coverage=0.1)
    house.count(100)
    house.pass_time(61)
    house.overseer.look()
    assert house.experiment().coverage == 0.1


def test_a_ramp_goes_no_further_with_an_arm_that_broke_a_guardrail(houses: Any) -> None:
    house = houses(ramp=RAMP, coverage=0.1, guardrails=[ERRORS])
    house.count(20_000, failing=0.3)
    house.pass_time(61)
    house.overseer.look()
    assert (house.experiment().coverage, house.experiment().state) == (0.1, "rolled_back")
