import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.experiments import units as room
from app.experiments.assignment import Arm, Split
from app.experiments.units import Units

SPLIT = Split("a seed", (Arm("original", 50, control=True), Arm("int8", 50)))
seen = st.lists(st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 3)), max_size=60)


def units_of(added: list[tuple[int, int]]) -> Units:
    units = Units()
    for key, arm in added:
        units.add(key, arm)
    return units


def test_units_are_counted_once_each() -> None:
    units = Units()
    assert units.add(5, 0)
    assert not units.add(5, 0)
    assert units.add(6, 0)
    assert units.add(6, 1)
    assert (units.count(0), units.count(1)) == (2, 1)
    assert units.multiple_exposure_rate == 0.5
    assert Units().multiple_exposure_rate == 0


@given(seen, seen)
def test_merging_is_counting_all_together(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "LIMIT", 16)
        merged = units_of(first)
        merged.merge(units_of(second))
        together = units_of(first + second)
        # A unit that was dropped on one side was dropped at a level that the other takes over.
        assert merged.level >= together.level
        together.merge(Units(level=merged.level))
        assert merged == together
        assert len(merged.arms) <= 16


@given(seen)
def test_units_come_back_from_json(added: list[tuple[int, int]]) -> None:
    units = units_of(added)
    assert Units.from_json(json.loads(json.dumps(units.to_json()))) == units


def test_beyond_the_limit_a_sample_counts_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LIMIT", 4096)
    units = Units()
    for number in range(100_000):
        place = SPLIT.place(f"user-{number}")
        units.add(place.key, 0 if place.variant == "original" else 1)
        if number % 10 == 0:
            units.add(place.key, 2)
    assert 2048 < len(units.arms) <= 4096
    assert units.count(0) == pytest.approx(50_000, rel=0.1)
    assert units.multiple_exposure_rate == pytest.approx(0.1, rel=0.25)
    assert units.remembered(0) == units.count(0) >> units.level


def test_processes_remember_the_same_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LIMIT", 64)
    keys = [SPLIT.place(f"user-{number}").key for number in range(1000)]
    forwards, backwards = units_of([(key, 0) for key in keys]), units_of([(key, 0) for key in reversed(keys)])
    assert forwards == backwards
    assert all(before < after for before, after in pairwise(sorted(forwards.arms)))


def test_of_a_unit_that_is_not_remembered_nothing_is_known() -> None:
    units = units_of([(5, 0)])
    assert [units.was_in(5, 0), units.was_in(5, 1), units.was_in(6, 0)] == [True, False, False]
    units.merge(Units(level=1))
    assert units.was_in(2**62, 1) is None
    assert units.was_in(6, 0) is False
