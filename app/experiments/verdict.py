"""What may be said of an arm, in a word and in a sentence."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf

from app.experiments.differences import difference, quantile_ratio
from app.experiments.guardrails import Evidence, Guardrail, Judgement, Result, judge, outcome_sequence
from app.experiments.moments import Moments
from app.experiments.paired import disagreement, speedup
from app.experiments.sequences import Interval


class Word(StrEnum):
    """`better`: all guardrails hold, and something is surely better, nothing surely worse. `not_worse`: all hold.
    `worse`: one is broken. `inconclusive`: none of these yet. Where there are no guardrails, any sure difference
    decides.
    """

    BETTER = "better"
    NOT_WORSE = "not_worse"
    WORSE = "worse"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Verdict:
    """Of one arm, at this time.

    Attributes:
        speedup: how many times as fast at p50, by pairs where there are enough of them (`paired`), else by the split.
        errors: the difference of the error rates.
        outcomes: the differences of their means, by name.
        disagreement: None where nothing was shadowed.
    """

    variant: str
    verdict: Word
    sentence: str
    judgements: tuple[Judgement, ...]
    speedup: Interval
    paired: bool
    errors: Interval
    outcomes: dict[str, Interval]
    disagreement: Interval | None


def verdict(
    control: Evidence, arm: Evidence, guardrails: Sequence[Guardrail], *, alpha: float = 0.05, arms: int = 1
) -> Verdict:
    """On `arm` compared with `control`, where `arms` are so compared in the experiment."""
    judgements = tuple(
        judge(guardrail, control, arm, alpha=alpha, family=len(guardrails) * arms) for guardrail in guardrails
    )
    fast, paired = _speedup(control, arm, alpha)
    names = sorted({*control.outcomes, *arm.outcomes})
    found = Verdict(
        variant=arm.variant,
        verdict=_word(control, arm, guardrails, judgements, names, alpha, arms),
        sentence="",
        judgements=judgements,
        speedup=fast,
        paired=paired,
        errors=difference(control.errors, arm.errors, alpha),
        outcomes={name: outcome_sequence(name, control, arm)(alpha) for name in names},
        disagreement=disagreement(arm.pairs, alpha) if arm.pairs.compared else None,
    )
    return Verdict(**{**vars(found), "sentence": _sentence(found, control, arm, alpha)})


def _word(
    control: Evidence,
    arm: Evidence,
    guardrails: Sequence[Guardrail],
    judgements: Sequence[Judgement],
    names: Sequence[str],
    alpha: float,
    arms: int,
) -> Word:
    level = alpha / (arms * (2 + len(names)))
    lower_is_better = {guardrail.outcome for guardrail in guardrails if guardrail.lower_is_better}
    gains = [_log_free(_speedup(control, arm, level)[0]), -difference(control.errors, arm.errors, level)]
    for name in names:
        change = outcome_sequence(name, control, arm)(level)
        gains.append(-change if name in lower_is_better else change)
    better, worse = any(gain.low > 0 for gain in gains), any(gain.high < 0 for gain in gains)
    results = {judgement.result for judgement in judgements}
    if Result.BROKEN in results or (worse and not guardrails):
        return Word.WORSE
    if Result.UNDECIDED in results or not (guardrails or better):
        return Word.INCONCLUSIVE
    return Word.BETTER if better and not worse else Word.NOT_WORSE


def _log_free(fast: Interval) -> Interval:
    """A speedup as a gain: 0 where there is none."""
    return Interval(fast.low - 1, fast.estimate - 1, fast.high - 1)


def _speedup(control: Evidence, arm: Evidence, alpha: float) -> tuple[Interval, bool]:
    by_pairs = speedup(arm.pairs, 0.5, alpha)
    if by_pairs.known:
        return by_pairs, True
    slower = quantile_ratio(control.latency, arm.latency, 0.5, alpha)
    # Of times that are 1 + x as long, the speedup is 1/(1 + x), and bounds change places.
    low, estimate, high = (1 / (1 + each) if each > -1 else inf for each in (slower.high, slower.estimate, slower.low))
    return (Interval(low, estimate, high) if slower.known else Interval(-inf, estimate, inf)), False


def _sentence(found: Verdict, control: Evidence, arm: Evidence, alpha: float) -> str:
    parts = [_pace(found.speedup)] if found.speedup.known else []
    if found.disagreement is not None:
        rate = found.disagreement
        parts.append(f"disagrees on {100 * rate.estimate:.2g}% [{100 * rate.low:.2g}, {100 * rate.high:.2g}]")
    for judgement in found.judgements:
        guardrail = judgement.guardrail
        if guardrail.metric == "disagreement":
            if judgement.result is not Result.HOLDS:
                parts.append(f"which {_standing(judgement)} the {100 * guardrail.limit:.3g}% allowed")
            continue
        parts.append(_clause(judgement, _scale(guardrail, control, arm)))
    return f"{found.variant}: {', '.join(parts) or 'nothing to go by yet'} ({100 * (1 - alpha):.3g}%)"


def _pace(fast: Interval) -> str:
    if fast.low > 1:
        return f"{fast.estimate:.1f}x faster at p50"
    if fast.high < 1:
        return f"{1 / fast.estimate:.1f}x slower at p50"
    return f"{fast.estimate:.2f}x as fast at p50 [{fast.low:.2f}, {fast.high:.2f}]"


def _standing(judgement: Judgement) -> str:
    return "is more than" if judgement.result is Result.BROKEN else "may yet be more than"


@dataclass(frozen=True)
class _Scale:
    """How a difference is written: in points, per cent, or as it is."""

    factor: float
    unit: str

    def write(self, value: float) -> str:
        return f"{self.factor * value:+.2g}{self.unit}"

    def interval(self, interval: Interval) -> str:
        low, high = self.factor * interval.low, self.factor * interval.high
        return f"{self.write(interval.estimate)} [{low:+.2g}, {high:+.2g}]"


def _scale(guardrail: Guardrail, control: Evidence, arm: Evidence) -> _Scale:
    if guardrail.quantile is not None:
        return _Scale(100, "%")
    name = guardrail.outcome
    if name is None or all(each.outcomes.get(name, Moments()).proportion for each in (control, arm)):
        return _Scale(100, " points")
    return _Scale(1, "")


def _clause(judgement: Judgement, scale: _Scale) -> str:
    interval, name = judgement.interval, judgement.guardrail.title
    worst = scale.write(judgement.guardrail.worse * judgement.guardrail.limit)
    if judgement.result is Result.HOLDS:
        return f"{name} not worse than {worst}"
    if not interval.known:
        return f"{name} not known yet"
    if judgement.result is Result.BROKEN:
        return f"{name} worse than {worst}: {scale.interval(interval)}"
    return f"{name} {scale.interval(interval)}, open whether worse than {worst}"
