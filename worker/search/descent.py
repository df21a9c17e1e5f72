"""The search itself: the fastest set of INT8 groups whose loss is within the budget.

Groups are ordered by the damage that each millisecond of theirs costs. The shortest beginning of that order that has
to stay in FP32 is found by bisection; then one sweep gives back to INT8 what turns out not to need it, since damages do
not add up. Where no beginning will do, the sweep starts from all groups in FP32. Wherever time ends, what was best
until then is the answer.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from worker.search.sensitivity import Sensitivity
from worker.search.trials import Kept, Trial, Trials

# Speeds that differ by less are one: the measurement is no better.
_TIE = 0.98

_FINALISTS = 3


@dataclass(frozen=True)
class Goal:
    """The budget: at most `max_accuracy_drop` of the original's accuracy, at least `min_speedup`, if that is given."""

    max_accuracy_drop: float
    min_speedup: float | None

    def is_met(self, trial: Trial) -> bool:
        return trial.drop <= self.max_accuracy_drop and trial.speedup >= (self.min_speedup or 0.0)

    def best(self, trials: Iterable[Trial]) -> Trial:
        """The fastest that meets the budget and, of the equally fast, that of least noise.

        Where none meets it: the one that misses accuracy by least and, of those within it, the fastest.
        """
        every = list(trials)
        accurate = [trial for trial in every if trial.drop <= self.max_accuracy_drop]
        if not accurate:
            return min(every, key=lambda trial: (trial.drop, -trial.speedup))
        fastest = max(trial.speedup for trial in accurate)
        return min((trial for trial in accurate if trial.speedup >= _TIE * fastest), key=_noise)


def _noise(trial: Trial) -> float:
    return -math.inf if trial.sqnr_db is None else -trial.sqnr_db


def in_order(sensitivities: Sequence[Sensitivity]) -> list[str]:
    """Names of groups, first those that are most worth staying in FP32: what saves no time, then by damage for time."""
    ordered = sorted(sensitivities, key=lambda one: (one.damage_per_ms, one.damage or 0.0), reverse=True)
    return [one.group.name for one in ordered]


def search(sensitivities: Sequence[Sensitivity], always: Kept, goal: Goal, trials: Trials) -> Trial:
    """The best trial found; `trials` remembers all. Groups `always` stay in FP32."""
    order = [name for name in in_order(sensitivities) if name not in always]
    by_name = {one.group.name: one for one in sensitivities}

    def prefix(length: int) -> Trial | None:
        return trials.trial(always | frozenset(order[:length]))

    prefix(0)
    useless = sum(by_name[name].saved_ms <= 0.0 for name in order)
    if 0 < useless < len(order):
        prefix(useless)
    _bisect(len(order), goal, prefix)
    best = goal.best(trials.made.values())
    if best.drop <= goal.max_accuracy_drop:
        by_time = sorted(best.kept - always, key=lambda name: -by_name[name].saved_ms)
        _give_back(by_time, best.kept, best.speedup, goal, trials)
    else:
        # No beginning of the order will do. From the other side: all in FP32, which surely does.
        _give_back(order[::-1], always | frozenset(order), 0.0, goal, trials)
    for eighths in (4, 2, 6, 1, 3):
        # Points for those who weigh speed and accuracy otherwise.
        prefix(len(order) * eighths // 8)
    _measure_finalists(goal, trials)
    return goal.best(trials.made.values())


def _measure_finalists(goal: Goal, trials: Trials) -> None:
    rivals = sorted(trials.made.values(), key=lambda trial: (not goal.is_met(trial), -trial.speedup))[:_FINALISTS]
    for trial in {goal.best(trials.made.values()), *rivals}:
        trials.measure_again(trial)


def _bisect(groups: int, goal: Goal, prefix: Callable[[int], Trial | None]) -> None:
    """Try lengths until the shortest prefix that keeps the accuracy is known; all groups in FP32 surely do."""
    too_short, enough = -1, groups
    while enough - too_short > 1:
        length = (too_short + enough) // 2 if too_short >= 0 else 0
        tried = prefix(length)
        if tried is None:
            return
        if tried.drop <= goal.max_accuracy_drop:
            enough = length
        else:
            too_short = length


def _give_back(candidates: Sequence[str], kept: Kept, speedup: float, goal: Goal, trials: Trials) -> None:
    """Once each, try to give `candidates` back to INT8, and go on from what keeps the accuracy and is faster."""
    for name in candidates:
        tried = trials.trial(kept - {name})
        if tried is None:
            return
        if tried.drop <= goal.max_accuracy_drop and tried.speedup > speedup:
            kept, speedup = tried.kept, tried.speedup
