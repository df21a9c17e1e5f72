"""The search, on groups whose damage and time are made up."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.graph.groups import Group
from worker.search.descent import Goal, in_order, search
from worker.search.sensitivity import Sensitivity
from worker.search.trials import Kept, Trial


@dataclass
class MadeUp:
    """Trials whose drop is the sum of the damages of the groups in INT8, and whose time that of all groups."""

    groups: Mapping[str, Sensitivity]
    limit: int = 10_000
    made: dict[Kept, Trial] = field(default_factory=dict)
    measured_again: int = 0

    def trial(self, kept: Kept) -> Trial | None:
        if kept not in self.made:
            if len(self.made) >= self.limit:
                return None
            self.made[kept] = self._computed(kept)
        return self.made[kept]

    def measure_again(self, trial: Trial) -> Trial:
        self.measured_again += 1
        return trial

    def _computed(self, kept: Kept) -> Trial:
        drop = sum(one.damage or 0.0 for name, one in self.groups.items() if name not in kept)
        before = sum(one.fp32_ms for one in self.groups.values())
        after = sum(one.fp32_ms if name in kept else one.int8_ms for name, one in self.groups.items())
        sqnr = -10 * math.log10(drop) if drop > 0 else None
        return Trial(kept, drop, None, None, sqnr, after, before / after, 100 - len(kept))


def _groups(*rows: tuple[float | None, float, float]) -> dict[str, Sensitivity]:
    """Damage, milliseconds in FP32 and in INT8."""
    return {
        f"g{number}": Sensitivity(Group(f"g{number}", (f"g{number}",), (f"g{number}",)), *row)
        for number, row in enumerate(rows)
    }


def _searched(
    groups: dict[str, Sensitivity], goal: Goal, *, always: Kept = frozenset(), limit: int = 10_000
) -> tuple[Trial, MadeUp]:
    trials = MadeUp(groups, limit)
    return search(list(groups.values()), always, goal, trials), trials


def test_all_stays_in_int8_where_that_is_within_the_budget() -> None:
    best, _ = _searched(_groups((0.001, 2, 1), (0.002, 2, 1), (0.003, 2, 1)), Goal(0.01, None))
    assert best.kept == frozenset()


def test_the_one_harmful_group_stays_in_fp32() -> None:
    best, _ = _searched(_groups((0.001, 2, 1), (0.5, 2, 1), (0.001, 2, 1), (0.001, 2, 1)), Goal(0.01, None))
    assert best.kept == {"g1"}


def test_of_two_as_harmful_the_one_that_saves_less_time_stays_in_fp32() -> None:
    best, _ = _searched(_groups((0.008, 20, 1), (0.008, 2, 1), (0.0, 2, 1)), Goal(0.01, None))
    assert best.kept == {"g1"}


def test_what_int8_makes_slower_stays_in_fp32() -> None:
    best, _ = _searched(_groups((0.0, 1, 3), (0.0, 10, 1), (0.001, 10, 1)), Goal(0.01, None))
    assert best.kept == {"g0"}


def test_the_sweep_gives_back_what_the_order_took_in_vain() -> None:
    # By damage for time g0 comes before g1, but g1 alone must be in FP32.
    best, trials = _searched(_groups((0.004, 2, 1), (0.02, 12, 1), (0.001, 5, 1)), Goal(0.01, None))
    assert best.kept == {"g1"}
    assert frozenset({"g0", "g1"}) in trials.made


def test_a_wished_group_stays_in_fp32() -> None:
    best, trials = _searched(_groups((0.0, 9, 1), (0.0, 9, 1)), Goal(0.01, None), always=frozenset({"g0"}))
    assert best.kept == {"g0"}
    assert all("g0" in kept for kept in trials.made)


def test_groups_that_were_not_measured_are_taken_to_be_harmless() -> None:
    assert in_order(list(_groups((None, 2, 1), (0.1, 2, 1)).values())) == ["g1", "g0"]


def test_where_nothing_meets_the_budget_the_least_loss_is_the_answer() -> None:
    groups = _groups((0.5, 2, 1), (0.25, 2, 1))
    best, _ = _searched(groups, Goal(0.0, None))
    assert best.drop == 0.25


def test_groups_that_harm_together_are_found_where_no_beginning_of_the_order_will_do() -> None:
    groups = _groups((0.3, 1, 2), (0.4, 1, 2), (0.001, 20, 1), (0.5, 20, 1))
    # g2 does less damage for its time than g3, and g3 than the others: only g2 may be in INT8.
    best, _ = _searched(groups, Goal(0.01, None))
    assert best.kept == {"g0", "g1", "g3"}
    # The order would have it the other way round.
    swapped = _groups((0.3, 1, 2), (0.4, 1, 2), (0.005, 1.01, 1), (0.009, 1.2, 1.1), (0.5, 20, 1))
    best, _ = _searched(swapped, Goal(0.01, None))
    assert best.drop <= 0.01


def test_finalists_are_measured_again() -> None:
    _, trials = _searched(_groups((0.001, 2, 1), (0.5, 2, 1)), Goal(0.01, None))
    assert trials.measured_again >= 2


def test_a_wanted_speed_is_met_where_it_can_be() -> None:
    groups = _groups((0.004, 3, 1), (0.004, 3, 1), (0.004, 3, 1))
    best, _ = _searched(groups, Goal(0.02, 2.5))
    assert best.speedup >= 2.5


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_when_time_ends_the_best_until_then_is_the_answer(limit: int) -> None:
    groups = _groups(*[(0.01 * number, 2 + number % 3, 1) for number in range(10)])
    best, trials = _searched(groups, Goal(0.05, None), limit=limit)
    assert len(trials.made) <= limit
    assert best is Goal(0.05, None).best(trials.made.values())


_ROWS = st.lists(st.tuples(st.floats(0.0, 0.1), st.floats(0.1, 5.0), st.floats(0.1, 5.0)), min_size=1, max_size=12)


@given(rows=_ROWS, budget=st.floats(0.001, 0.5))
def test_the_answer_is_within_the_budget_wherever_a_prefix_is(
    rows: list[tuple[float, float, float]], budget: float
) -> None:
    groups = _groups(*rows)
    best, trials = _searched(groups, Goal(budget, None))
    order = in_order(list(groups.values()))
    reachable = [trials._computed(frozenset(order[:length])).drop for length in range(len(order))]
    if min(reachable) <= budget:
        assert best.drop <= budget
    # A bisection, a sweep and a few points: not every subset.
    assert len(trials.made) <= 2 * len(rows) + 16


@given(_ROWS)
def test_the_answer_is_no_slower_than_any_trial_within_the_budget(rows: list[tuple[float, float, float]]) -> None:
    goal = Goal(0.05, None)
    best, trials = _searched(_groups(*rows), goal)
    within = [trial for trial in trials.made.values() if goal.is_met(trial)]
    if within:
        assert best.speedup >= 0.98 * max(trial.speedup for trial in within)
        assert replace(best) in within
