"""Whether an arm keeps to a guardrail."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from app.experiments.differences import difference, quantile_ratio
from app.experiments.evidence import Evidence
from app.experiments.guardrails import Guardrail
from app.experiments.moments import Moments
from app.experiments.paired import disagreement
from app.experiments.sequences import Interval


class Result(StrEnum):
    HOLDS = "holds"
    BROKEN = "broken"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Judgement:
    """What is known of a guardrail at this time.

    Attributes:
        interval: of the difference to the control, in the metric's own direction; relative for latencies, and for
            disagreement the rate itself.
    """

    guardrail: Guardrail
    result: Result
    interval: Interval


#: The interval of a metric, at a level alpha.
AtLevel = Callable[[float], Interval]


def sequence_of(guardrail: Guardrail, control: Evidence, arm: Evidence) -> AtLevel:
    """What is compared with the guardrail's limit, at any alpha."""
    if guardrail.outcome is not None:
        name = guardrail.outcome
        return outcome_sequence(name, control, arm)
    if guardrail.quantile is not None:
        q = guardrail.quantile
        return lambda alpha: quantile_ratio(control.latency, arm.latency, q, alpha)
    if guardrail.metric == "disagreement":
        return lambda alpha: disagreement(arm.pairs, alpha)
    return lambda alpha: difference(control.errors, arm.errors, alpha)


def outcome_sequence(name: str, control: Evidence, arm: Evidence) -> AtLevel:
    its, mine = (evidence.outcomes.get(name, Moments()) for evidence in (control, arm))
    return lambda alpha: difference(its, mine, alpha)


def judge(guardrail: Guardrail, control: Evidence, arm: Evidence, *, alpha: float, family: int = 1) -> Judgement:
    """`holds` when the interval at `alpha` is within the limit: that all guardrails hold is claimed wrongly no more
    often than that the worst of them does, so that needs no correction (Berger 1982). `broken` when that at
    `alpha`/`family` is beyond it, where `family` is how many guardrails of how many arms could break (Bonferroni), so
    that of whole experiments without harm a part `alpha` at most sees one break, however often they are looked at.
    """
    at = sequence_of(guardrail, control, arm)
    interval = at(alpha)
    harm, surely = (each if guardrail.worse > 0 else -each for each in (interval, at(alpha / family)))
    if surely.low > guardrail.limit:
        return Judgement(guardrail, Result.BROKEN, interval)
    return Judgement(guardrail, Result.HOLDS if harm.high <= guardrail.limit else Result.UNDECIDED, interval)
