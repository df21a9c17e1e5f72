"""How much the rates, means and latencies of an arm and the control differ, by intervals that hold at all times."""

from math import inf, sqrt

from scipy.special import stdtr, stdtrit

from app.experiments.moments import Moments
from app.experiments.sequences import Interval, normal_deviations, proportion, quantile_ranks
from app.experiments.sketch import RELATIVE_ERROR, Sketch

#: Below so many clusters in either arm, sums are not taken to be normal.
MINIMUM_CLUSTERS = 100
#: Nor are those of proportions, below so many events of either outcome in both arms together.
MINIMUM_EVENTS = 20

#: Of alpha, the part that is spent on intervals that need no normality, so that both kinds together keep to alpha.
EXACT_PART = 0.1


def difference(control: Moments, arm: Moments, alpha: float) -> Interval:
    """The rate of `arm` less that of `control`.

    Normal, by the delta method over clusters and an asymptotic confidence sequence, once there is enough to go by.
    Until then, of proportions, the interval between the bounds of both arms (`exact_proportion`), which finds gross
    differences in some dozens of clusters; of other values nothing is said. Each kind of interval has its part of
    `alpha`.
    """
    estimate = arm.rate - control.rate
    if not (control.denominator and arm.denominator):
        return Interval(-inf, 0.0, inf)
    proportions = control.proportion and arm.proportion
    few = min(control.effective_clusters, arm.effective_clusters) < MINIMUM_CLUSTERS
    if proportions and (few or _rare(control, arm)):
        mine, its = (exact_proportion(moments, alpha * EXACT_PART / 2) for moments in (arm, control))
        return Interval(mine.low - its.high, estimate, mine.high - its.low)
    error = sqrt(control.variance + arm.variance)
    if few or not error:
        return Interval(-inf, estimate, inf)
    level = alpha * (1 - EXACT_PART) if proportions else alpha
    observations = control.denominator + arm.denominator
    width = error * normal_deviations(observations, level, freedom=degrees_of_freedom(control, arm))
    return Interval(estimate - width, estimate, estimate + width)


def exact_proportion(moments: Moments, alpha: float) -> Interval:
    """The rate of one arm, by the exact interval for as many independent trials as the clusters are worth.

    Of few clusters each is one trial, as if all in it were the same. Of more, the trials are the observations over the
    design effect: what the rate varies over what it would if all were independent. Korn and Graubard, "Confidence
    intervals for proportions with small expected number of positive counts estimated from survey data" (1998).
    """
    trials = moments.effective_clusters
    if trials >= MINIMUM_CLUSTERS:
        trials = max(trials, moments.denominator / _design_effect(moments))
    return proportion(moments.rate * trials, trials, alpha)


def quantile_ratio(control: Sketch, arm: Sketch, q: float, alpha: float) -> Interval:
    """The quantile of `arm` over that of `control`, less 1: 0.1 is 10% more. Each is within its interval at level
    `alpha`/2, widened by what a sketch may be off.

    Exact for independent values from a fixed distribution. Latencies of one machine come in waves; both arms ride on
    the same ones, which the ratio of their quantiles forgives, and their bounds do not know of. Arms that share cores
    slow each other down: pairs (`app.experiments.pairs`) tell more.
    """
    if not (control.count and arm.count):
        return Interval(-inf, 0.0, inf)
    estimate = arm.quantile(q) / control.quantile(q) - 1
    mine, its = quantile(arm, q, alpha / 2), quantile(control, q, alpha / 2)
    if not (mine.known and its.known):
        return Interval(-inf, estimate, inf)
    return Interval(mine.low / its.high - 1, estimate, mine.high / its.low - 1)


def quantile(sketch: Sketch, q: float, alpha: float) -> Interval:
    """A quantile of what the values in a sketch are drawn from. Infinite bounds where there are too few of them."""
    count = sketch.count
    ranks = quantile_ranks(count, q, alpha)
    if ranks is None:
        return Interval(-inf, sketch.quantile(q) if count else 0.0, inf)
    low, high = sketch.ranked(ranks)
    return Interval(low * (1 - RELATIVE_ERROR), sketch.quantile(q), high * (1 + RELATIVE_ERROR))


def fixed_difference(control: Moments, arm: Moments, alpha: float) -> tuple[Interval, float]:
    """The difference as an experiment of a size fixed beforehand would have it, looked at once, and its p-value:
    Welch's t (1947). Not for decisions while an experiment runs.
    """
    estimate, error = arm.rate - control.rate, sqrt(control.variance + arm.variance)
    freedom = degrees_of_freedom(control, arm)
    width = float(stdtrit(freedom, 1 - alpha / 2)) * error
    return Interval(estimate - width, estimate, estimate + width), float(2 * stdtr(freedom, -abs(estimate) / error))


def degrees_of_freedom(control: Moments, arm: Moments) -> float:
    """Of the standard error of the difference, by clusters: Welch (1947) and Satterthwaite (1946)."""
    parts = [(moments.variance, moments.clusters - 1) for moments in (control, arm)]
    spread = sum(variance * variance / freedom for variance, freedom in parts if freedom > 0)
    return sum(variance for variance, _ in parts) ** 2 / spread if spread else 1.0


def _rare(control: Moments, arm: Moments) -> bool:
    events = control.numerator + arm.numerator
    others = control.denominator + arm.denominator - events
    return min(events, others) < MINIMUM_EVENTS


def _design_effect(moments: Moments) -> float:
    independent = moments.rate * (1 - moments.rate) / moments.denominator
    return max(1.0, moments.variance / independent) if independent else 1.0
