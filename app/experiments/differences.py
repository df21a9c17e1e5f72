"""How much the rates, means and latencies of an arm and the control differ, by intervals that hold at all times."""

from math import ceil, exp, floor, hypot, inf, log, sqrt

from scipy.special import ndtri, stdtr, stdtrit

from app.experiments.moments import Moments
from app.experiments.sequences import Interval, normal_deviations, proportion, quantile_ranks
from app.experiments.sketch import RELATIVE_ERROR, Latencies, Sketch

#: Below so many clusters in either arm, sums are not taken to be normal.
MINIMUM_CLUSTERS = 100
#: Nor are those of proportions, below so many of the outcome that is rarer in an arm, over both arms.
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
    error = _error(control, arm)
    few = min(control.effective_clusters, arm.effective_clusters) < MINIMUM_CLUSTERS
    # Where one arm fails all and the other nothing, or every cluster at the same rate, nothing varies to go by.
    if proportions and (few or not error or _rare(control) + _rare(arm) < MINIMUM_EVENTS):
        mine, its = (exact_proportion(moments, alpha * EXACT_PART / 2) for moments in (arm, control))
        return Interval(mine.low - its.high, estimate, mine.high - its.low)
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


def quantile_ratio(control: Latencies, arm: Latencies, q: float, alpha: float) -> Interval:
    """The quantile of `arm` over that of `control`, less 1: 0.1 is 10% more.

    Of its logarithm, the distances to both arms' bounds add up as the squares of standard errors do: Zou and Donner,
    "Construction of confidence limits about effect measures: a general approach" (Statistics in Medicine 2008).

    Latencies of one machine come in waves. Both arms ride on the same ones, which the ratio of their quantiles
    forgives. Arms that share cores slow each other down: pairs (`app.experiments.paired`) tell more.
    """
    mine, its = latency_quantile(arm, q, alpha), latency_quantile(control, q, alpha)
    estimate = mine.estimate / its.estimate - 1 if mine.estimate and its.estimate else 0.0
    if not (mine.known and its.known):
        return Interval(-inf, estimate, inf)
    below = hypot(log(mine.estimate / mine.low), log(its.high / its.estimate))
    above = hypot(log(mine.high / mine.estimate), log(its.estimate / its.low))
    return Interval((1 + estimate) * exp(-below) - 1, estimate, (1 + estimate) * exp(above) - 1)


def latency_quantile(latencies: Latencies, q: float, alpha: float) -> Interval:
    """A quantile of the latency, in nanoseconds. Exact if requests are independent; otherwise they count for as many
    as how much groups of units differ lets them (the design effect of Kish 1965).
    """
    total = latencies.total
    if not total.count:
        return Interval(-inf, 0.0, inf)
    return quantile(total, q, alpha, design_effect=_design_effect_of_groups(latencies, total.quantile(q), alpha))


def quantile(sketch: Sketch, q: float, alpha: float, *, design_effect: float = 1.0) -> Interval:
    """A quantile of what the values in a sketch are drawn from, widened by what the sketch may be off; as if there were
    `design_effect` times fewer of them. Infinite bounds where there are too few.
    """
    count = sketch.count
    if not count:
        return Interval(-inf, 0.0, inf)
    estimate, trials = sketch.quantile(q), int(count / design_effect)
    ranks = quantile_ranks(trials, q, alpha)
    if ranks is None:
        return Interval(-inf, estimate, inf)
    each = count / trials
    low, high = sketch.ranked([floor(ranks[0] * each), min(ceil((ranks[1] + 1) * each), count) - 1])
    return Interval(low * (1 - RELATIVE_ERROR), estimate, high * (1 + RELATIVE_ERROR))


def fixed_difference(control: Moments, arm: Moments, alpha: float) -> tuple[Interval, float]:
    """The difference as an experiment of a size fixed beforehand would have it, looked at once, and its p-value:
    Welch's t (1947). Not for decisions while an experiment runs.
    """
    estimate, error = arm.rate - control.rate, sqrt(control.variance + arm.variance)
    freedom = degrees_of_freedom(control, arm)
    width = float(stdtrit(freedom, 1 - alpha / 2)) * error
    return Interval(estimate - width, estimate, estimate + width), float(2 * stdtr(freedom, -abs(estimate) / error))


def degrees_of_freedom(control: Moments, arm: Moments) -> float:
    """Of the standard error of the difference, by clusters of equal denominators: Welch (1947)."""
    parts = [(moments.variance, moments.effective_clusters - 1) for moments in (control, arm)]
    spread = sum(variance * variance / freedom for variance, freedom in parts if freedom > 0)
    return sum(variance for variance, _ in parts) ** 2 / spread if spread else 1.0


def _error(control: Moments, arm: Moments) -> float:
    """The standard error of the difference, where each arm is taken to vary no less than the other does.

    The small arm of 90/10 has often not seen yet what is rare: it is then off the most and would be thought to be the
    surest. Without this, one in eight such experiments without any difference shows one.
    """
    by_observation = max(moments.variance * moments.denominator for moments in (control, arm))
    return sqrt(by_observation * (1 / control.denominator + 1 / arm.denominator))


def _rare(moments: Moments) -> float:
    """How many observations had the outcome that is the rarer one in this arm."""
    return min(moments.numerator, moments.denominator - moments.numerator)


def _design_effect(moments: Moments) -> float:
    independent = moments.rate * (1 - moments.rate) / moments.denominator
    return max(1.0, moments.variance / independent) if independent else 1.0


def _design_effect_of_groups(latencies: Latencies, value: float, alpha: float) -> float:
    """How much more the number of latencies up to `value` varies by groups of units than if all were independent, at
    least 1. Of few groups it is not well known; so it is taken for as much larger as Student's t is than the normal.
    """
    seen = [(group.below(value), group.count) for group in latencies.groups if group.count]
    count = sum(group for _, group in seen)
    part = sum(below for below, _ in seen) / count
    if len(seen) < 2:
        return inf
    independent = count * part * (1 - part)
    varies = sum((below - part * group) ** 2 for below, group in seen) * len(seen) / (len(seen) - 1)
    stretch = float(stdtrit(len(seen) - 1, alpha / 20) / ndtri(alpha / 20))
    return max(1.0, varies / independent * stretch**2) if independent else 1.0
