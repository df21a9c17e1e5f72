"""Intervals that hold at all times at once: whoever looks at them all day is misled no more often than who looks once.

Each is the set of values that a bet against them has not made rich. The capital of a bet against the truth is a
nonnegative martingale that starts at 1, and ever reaches 1/alpha with probability alpha at most (Ville 1939). All bets
are mixtures: Robbins, "Statistical methods related to the law of the iterated logarithm" (1970); Howard, Ramdas,
McAuliffe and Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences" (Annals of Statistics 2021).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import exp, inf, log, log1p, sqrt

from scipy.optimize import brentq
from scipy.special import betaln, ndtr, stdtrit, xlog1py, xlogy

#: Numbers of observations at which the intervals for means are tightest. One would do: 5,000 in GrowthBook. But a harm
#: of ten points should be seen in some hundred observations, and one of half a point be ruled out in a hundred
#: thousand; with both, intervals are at most a sixth wider than with the best single one, from 300 observations to a
#: million.
TUNED_FOR = (1_000, 100_000)


@dataclass(frozen=True)
class Interval:
    """An estimate, and what the truth is between. Nothing is known where the bounds are infinite."""

    low: float
    estimate: float
    high: float

    def __neg__(self) -> "Interval":
        return Interval(-self.high, -self.estimate, -self.low)

    @property
    def known(self) -> bool:
        return self.low > -inf or self.high < inf


def normal_deviations(
    observations: float, alpha: float, *, freedom: float = inf, tuned_for: tuple[float, ...] = TUNED_FOR
) -> float:
    """How many standard errors an estimate may be off, at any time, where sums behave as a Brownian motion does.

    An asymptotic confidence sequence: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit
    theory and asymptotic confidence sequences" (Annals of Statistics 2024), theorem 2.2. With one number in `tuned_for`
    it is theirs, and GrowthBook's; more of them are mixed evenly. With few clusters the standard error is itself
    uncertain: the bound is put where Student's t with so many degrees of `freedom` has the tail that the normal has.
    """
    if observations <= 0:
        return inf
    # ρ² times the observations, by their closed approximation of the ρ that is tightest at each of the numbers.
    best = -2 * log(alpha) + log1p(-2 * log(alpha))
    gains = [best * observations / number for number in tuned_for]
    # The capital of the mixture is convex in the squared deviation, and Newton's method comes down to 1/alpha.
    squared = min((1 + 1 / gain) * (2 * log(len(gains) / alpha) + log1p(gain)) for gain in gains)
    for _ in range(20):
        parts = [exp(0.5 * (squared * gain / (1 + gain) - log1p(gain)) + log(alpha)) / len(gains) for gain in gains]
        capital = sum(parts)
        slope = sum(0.5 * part * gain / (1 + gain) for part, gain in zip(parts, gains, strict=True)) / capital
        step = log(capital) / slope
        squared -= step
        if abs(step) < 1e-9 * squared:
            break
    deviations = sqrt(squared)
    return deviations if freedom == inf else float(-stdtrit(freedom, ndtr(-deviations)))


def log_capital(successes: float, trials: float, chance: float, *, prior: tuple[float, float] = (0.5, 0.5)) -> float:
    """What a bet against `chance` has made of 1 after so many successes, as a logarithm: the beta-binomial mixture.

    Howard et al. 2021, proposition 7; with the prior Beta(½, ½) it is never far behind the best bet in hindsight
    (Krichevsky and Trofimov 1981), for rare successes too. Values between 0 and 1 with that mean may be summed up in
    place of successes: the bet is convex in them, so that it gains no more. All arguments may be arrays.
    """
    failures = trials - successes
    mixed = betaln(prior[0] + successes, prior[1] + failures) - betaln(*prior)
    value: float = mixed - xlogy(successes, chance) - xlog1py(failures, -chance)
    return value


def proportion(successes: float, trials: float, alpha: float) -> Interval:
    """The chance of a success, exactly valid for independent trials. [0, 1] where there were none."""
    if trials <= 0:
        return Interval(0.0, 0.0, 1.0)
    # Seen from the failures, so that an upper bound close to 1 is as accurate as a lower one close to 0.
    low, none = (_least(events, trials, alpha) for events in (successes, trials - successes))
    return Interval(low, successes / trials, 1 - none)


def _least(successes: float, trials: float, alpha: float) -> float:
    if successes <= 0:
        return 0.0
    # `log_capital` less its limit; the mixture is the same for all chances.
    failures = trials - successes
    mixed = float(betaln(0.5 + successes, 0.5 + failures) - betaln(0.5, 0.5)) + log(alpha)
    return _crossing(
        lambda chance: mixed - successes * log(chance) - (failures * log1p(-chance) if failures else 0.0),
        1e-300,
        successes / trials,
    )


@lru_cache(maxsize=4096)
def quantile_ranks(count: int, q: float, alpha: float) -> tuple[int, int] | None:
    """Ranks from 0 of the values between which the quantile `q` of the distribution is, at any count. None where too
    few have been seen.

    How many of the values are at most the quantile is a sum of independent trials of chance `q`, so the ranks are those
    that a bet against `q` leaves: Howard and Ramdas, "Sequential estimation of quantiles with applications to A/B
    testing and best-arm identification" (Bernoulli 2022), theorem 1. The prior's mean is `q`, and it is tightest at
    about `TUNED_FOR[0]` values.
    """
    strength = TUNED_FOR[0] / (-2 * log(alpha) + log1p(-2 * log(alpha)))
    prior = (strength * q, strength * (1 - q))
    limit = log(1 / alpha)

    def left(below: float) -> float:
        return log_capital(below, count, q, prior=prior) - limit

    centre = count * q
    if left(0.0) <= 0 or left(float(count)) <= 0:
        return None
    # Fewer than `low` of the values, and more than `high`, would be too unlikely.
    low, high = _crossing(left, 0.0, centre), _crossing(left, float(count), centre)
    return max(int(low) - 1, 0), min(int(high) + 1, count - 1)


def _crossing(outside: Callable[[float], float], edge: float, inside: float) -> float:
    """Where, between `edge` and `inside`, what is positive outside of an interval turns negative; else the edge."""
    if outside(edge) <= 0:
        return edge
    return float(brentq(outside, edge, inside, xtol=1e-15, rtol=1e-9))
