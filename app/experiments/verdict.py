"""What may be said of an arm, in a word and in a sentence."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf

from app.experiments.differences import difference, quantile_ratio
from app.experiments.evidence import Evidence
from app.experiments.guardrails import Guardrail
from app.experiments.judgement import Judgement, Result, judge, outcome_sequence
from app.experiments.moments import Moments
from app.experiments.paired import disagreement, mcnemar, speedup
from app.experiments.pairs import Pairs
from app.experiments.sequences import Interval


class Word(StrEnum):
    """`better`: all guardrails hold, something is surely better, and nothing surely worse. `not_worse`: all hold.
    `worse`: one is broken. `inconclusive`: none of these yet. Where there are no guardrails, any sure difference
    decides.
    """

    BETTER = "better"
    NOT_WORSE = "not_worse"
    WORSE = "worse"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Differences:
    """What is shown of an arm beside its guardrails.

    Attributes:
        speedup: how many times as fast at p50.
        paired: that the speedup is by pairs, of which there are enough; else it is by the split.
        errors: of the error rates.
        outcomes: of the means, by name.
        disagreement: the part of shadowed requests whose top-1 is another; None where there are none.
        right_answers: of the part of shadowed requests that are answered rightly; None where no label is known.
    """

    speedup: Interval
    paired: bool
    errors: Interval
    outcomes: dict[str, Interval]
    disagreement: Interval | None
    right_answers: Interval | None


@dataclass(frozen=True)
class Verdict:
    """Of one arm, at this time."""

    variant: str
    word: Word
    sentence: str
    judgements: tuple[Judgement, ...]
    differences: Differences


def verdict(
    control: Evidence, arm: Evidence, guardrails: Sequence[Guardrail], *, alpha: float = 0.05, arms: int = 1
) -> Verdict:
    """On `arm` compared with `control`, where `arms` of the experiment are."""
    family = len(guardrails) * arms
    judgements = tuple(judge(guardrail, control, arm, alpha=alpha, family=family) for guardrail in guardrails)
    found = differences(control, arm, alpha)
    # What is surely better is picked from all that could be: by Bonferroni.
    compared = 2 + len(found.outcomes) + (found.right_answers is not None)
    surely = differences(control, arm, alpha / (arms * compared))
    fewer = {guardrail.outcome for guardrail in guardrails if guardrail.lower_is_better}
    gains = [replace(surely.speedup, low=surely.speedup.low - 1, high=surely.speedup.high - 1), -surely.errors]
    gains += [-change if name in fewer else change for name, change in surely.outcomes.items()]
    gains += [surely.right_answers] if surely.right_answers is not None else []
    word = _word([judgement.result for judgement in judgements], gains)
    return Verdict(arm.variant, word, _sentence(control, arm, judgements, found, alpha), judgements, found)


def differences(control: Evidence, arm: Evidence, alpha: float) -> Differences:
    by_pairs = speedup(arm.pairs, 0.5, alpha)
    return Differences(
        speedup=by_pairs if by_pairs.known else _speedup_by_split(control, arm, alpha),
        paired=by_pairs.known,
        errors=difference(control.errors, arm.errors, alpha),
        outcomes={
            name: outcome_sequence(name, control, arm)(alpha) for name in sorted({*control.outcomes, *arm.outcomes})
        },
        disagreement=disagreement(arm.pairs, alpha) if arm.pairs.compared else None,
        right_answers=mcnemar(arm.pairs, alpha).change if arm.pairs.labelled else None,
    )


def _speedup_by_split(control: Evidence, arm: Evidence, alpha: float) -> Interval:
    longer = quantile_ratio(control.latency, arm.latency, 0.5, alpha)
    # What takes 1 + x times as long is 1/(1 + x) times as fast.
    low, estimate, high = (1 / (1 + part) for part in (longer.high, longer.estimate, longer.low))
    return Interval(low, estimate, high) if longer.known else Interval(-inf, estimate, inf)


def _word(results: Sequence[Result], gains: Sequence[Interval]) -> Word:
    better, worse = any(gain.low > 0 for gain in gains), any(gain.high < 0 for gain in gains)
    if Result.BROKEN in results or (worse and not results):
        return Word.WORSE
    if Result.UNDECIDED in results or not (results or better):
        return Word.INCONCLUSIVE
    return Word.BETTER if better and not worse else Word.NOT_WORSE


def _sentence(
    control: Evidence, arm: Evidence, judgements: Sequence[Judgement], found: Differences, alpha: float
) -> str:
    clauses = [_pace(found.speedup)] if found.speedup.known else []
    guarded = [each for each in judgements if each.guardrail.metric == "disagreement"]
    if found.disagreement is not None and not guarded:
        clauses.append(_disagreement(found.disagreement))
    if found.right_answers is not None:
        clauses.append(_right_answers(arm.pairs, found.right_answers))
    for judgement in (*guarded, *(each for each in judgements if each not in guarded)):
        clauses.append(_clause(judgement, _scale(judgement.guardrail, control, arm)))
    return f"{arm.variant}: {', '.join(clauses) or 'nothing to go by yet'} ({100 * (1 - alpha):.3g}%)"


def _pace(fast: Interval) -> str:
    if fast.low > 1:
        return f"{fast.estimate:.1f}x faster at p50"
    if fast.high < 1:
        return f"{1 / fast.estimate:.1f}x slower at p50"
    return f"{fast.estimate:.2f}x as fast at p50 [{fast.low:.2f}, {fast.high:.2f}]"


def _disagreement(rate: Interval) -> str:
    return f"disagrees on {_short(100 * rate.estimate)}% [{_short(100 * rate.low)}, {_short(100 * rate.high)}]"


def _right_answers(pairs: Pairs, change: Interval) -> str:
    alone = f"alone right on {pairs.variant_only}, alone wrong on {pairs.control_only} of {pairs.labelled} labelled"
    return f"right answers {_Scale(100, ' points').interval(change)} ({alone})"


@dataclass(frozen=True)
class _Scale:
    """How a difference is written: in points, per cent, or as it is."""

    factor: float
    unit: str

    def write(self, value: float) -> str:
        return f"{_short(self.factor * value, '+')}{self.unit}"

    def interval(self, interval: Interval) -> str:
        low, high = (_short(self.factor * bound, "+") for bound in (interval.low, interval.high))
        return f"{self.write(interval.estimate)} [{low}, {high}]"


def _short(value: float, sign: str = "") -> str:
    """Two digits, and no exponent: 0.46, 3.1, 120."""
    return format(float(f"{value:.2g}") + 0.0, f"{sign}.12g")


def _scale(guardrail: Guardrail, control: Evidence, arm: Evidence) -> _Scale:
    if guardrail.quantile is not None:
        return _Scale(100, "%")
    name = guardrail.outcome
    if name is None or all(each.outcomes.get(name, Moments()).proportion for each in (control, arm)):
        return _Scale(100, " points")
    return _Scale(1, "")


def _clause(judgement: Judgement, scale: _Scale) -> str:
    guardrail, interval = judgement.guardrail, judgement.interval
    if guardrail.metric == "disagreement":
        if interval.low == 0 and interval.high == 1:
            return "disagreement not known yet"
        return _disagreement(interval) + _against_the_limit(judgement)
    worst = scale.write(guardrail.worse * guardrail.limit)
    if judgement.result is Result.HOLDS:
        return f"{guardrail.title} not worse than {worst}"
    if not interval.known:
        return f"{guardrail.title} not known yet"
    if judgement.result is Result.BROKEN:
        return f"{guardrail.title} worse than {worst}: {scale.interval(interval)}"
    return f"{guardrail.title} {scale.interval(interval)}, open whether worse than {worst}"


def _against_the_limit(judgement: Judgement) -> str:
    limit = f"{_short(100 * judgement.guardrail.limit)}%"
    if judgement.result is Result.HOLDS:
        return ""
    return f", more than {limit}" if judgement.result is Result.BROKEN else f", open whether more than {limit}"
