"""What pairs tell: the same requests, answered by the control and by a shadow of it, which takes far less traffic than
a split.

Which requests are answered twice is decided by a hash of their ids, so pairs are a random sample of the traffic: what
is said here holds for that traffic, however alike the requests of one client are.
"""

from dataclasses import dataclass
from math import exp, inf, sqrt

from scipy.special import bdtr

from app.experiments.differences import EXACT_PART, MINIMUM_CLUSTERS, MINIMUM_EVENTS, quantile
from app.experiments.moments import Moments
from app.experiments.pairs import MILLION, Pairs
from app.experiments.sequences import Interval, log_capital, normal_deviations, proportion


@dataclass(frozen=True)
class McNemar:
    """Whether one of two that answer the same questions is right more often.

    Attributes:
        change: of the part of right answers, variant less control, at any time.
        p_value: exact, for a number of pairs fixed beforehand: McNemar (1947), by the binomial distribution.
        anytime_p_value: for whoever looks again and again: the inverse of what a bet has made, on which of the two is
            right where only one is. A fair coin under the null; Howard et al. 2021, proposition 7.
    """

    change: Interval
    p_value: float
    anytime_p_value: float


def disagreement(pairs: Pairs, alpha: float) -> Interval:
    """The part of the traffic on which the variant's top-1 is another; exact at any time."""
    return proportion(pairs.disagreements, pairs.compared, alpha)


def speedup(pairs: Pairs, q: float, alpha: float) -> Interval:
    """The quantile `q` of how many times as fast the variant answers the same request; exact at any time, and blind to
    what disturbs both. Infinite bounds where there are too few pairs.
    """
    ratio = quantile(pairs.ratios, q, alpha)
    return Interval(ratio.low / MILLION, ratio.estimate / MILLION, ratio.high / MILLION)


def mean_speedup(pairs: Pairs, alpha: float) -> Interval:
    """The geometric mean of how many times as fast it is; asymptotic, by the mean of the logarithms."""
    logs = mean(Moments.of_values(pairs.count, pairs.log_ratio, pairs.log_ratio_squares), alpha)
    return Interval(exp(logs.low), exp(logs.estimate), exp(logs.high) if logs.high < inf else inf)


def mean(moments: Moments, alpha: float) -> Interval:
    """A mean, at any time; infinite bounds below `MINIMUM_CLUSTERS` clusters. Source: `normal_deviations`."""
    error = sqrt(moments.variance)
    if moments.effective_clusters < MINIMUM_CLUSTERS or not error:
        return Interval(-inf, moments.rate, inf)
    width = error * normal_deviations(moments.denominator, alpha, freedom=moments.effective_clusters - 1)
    return Interval(moments.rate - width, moments.rate, moments.rate + width)


def mcnemar(pairs: Pairs, alpha: float) -> McNemar:
    """By the pairs whose right answer is known."""
    lost, won, total = pairs.control_only, pairs.variant_only, pairs.labelled
    either = lost + won
    bet = float(log_capital(won, either, 0.5))
    return McNemar(
        change=_change(lost, won, total, alpha),
        p_value=min(1.0, 2 * float(bdtr(min(lost, won), either, 0.5))),
        anytime_p_value=exp(-max(bet, 0.0)),
    )


def _change(lost: int, won: int, total: int, alpha: float) -> Interval:
    """Of the mean of 1 for each won, -1 for each lost: from the bounds of both while they are few, then normal; with
    parts of `alpha` as `differences.difference` has them.
    """
    if lost + won >= MINIMUM_EVENTS and total >= MINIMUM_CLUSTERS:
        return mean(Moments.of_values(total, won - lost, won + lost), alpha * (1 - EXACT_PART))
    gains, losses = (proportion(events, total, alpha * EXACT_PART / 2) for events in (won, lost))
    return Interval(gains.low - losses.high, gains.estimate - losses.estimate, gains.high - losses.low)
