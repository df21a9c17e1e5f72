from math import exp, inf, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from app.experiments.moments import Moments
from app.experiments.sequences import Interval, log_capital, normal_deviations, proportion, quantile_ranks

# The reference figures of confseq, by Howard and others (MIT): tightest at 100, alpha 0.05.
TIGHTEST_AT_100 = 12.60056


def test_the_normal_boundary_is_that_of_confseq() -> None:
    assert normal_deviations(100, 0.05, tuned_for=(100,)) * 10 == pytest.approx(30.35209, abs=1e-5)


def test_the_beta_binomial_mixture_is_that_of_confseq() -> None:
    # There a success weighs 0.8, a failure -0.2, and their sum is 10 at variance 100: 135 of 625 at chance 0.2.
    strength = TIGHTEST_AT_100 - 0.2 * 0.8
    prior = (strength / 0.8, strength / 0.2)
    assert log_capital(135, 625, 0.2, prior=prior) == pytest.approx(-0.6941012, abs=1e-5)
    # And the bound on that sum is 31.4308, which is 156.4308 of 625.
    assert log_capital(125 + 31.4308, 625, 0.2, prior=prior) == pytest.approx(log(20), abs=1e-4)


# Published in GrowthBook's tests of its statistics (MIT): relative differences, with sums, sums of squares and counts.
@pytest.mark.parametrize(
    ("control", "arm", "tuned_for", "estimate", "error", "low", "high"),
    [
        (
            Moments.of_values(3000, 1396.87, 52377.9767),
            Moments.of_values(3461, 2422.7, 134698.29),
            1000,
            *(0.50336, 0.33341, -0.55844, 1.56516),
        ),
        (
            Moments.of_values(3000, 1396, 1396),
            Moments.of_values(3461, 2422, 2422),
            5000,
            *(0.50386, 0.03386, 0.40098, 0.60675),
        ),
    ],
)
def test_the_sequential_intervals_are_growthbooks(
    control: Moments, arm: Moments, tuned_for: int, estimate: float, error: float, low: float, high: float
) -> None:
    relative = arm.rate / control.rate - 1
    spread = (arm.variance + control.variance * (arm.rate / control.rate) ** 2) ** 0.5 / control.rate
    width = spread * normal_deviations(arm.clusters + control.clusters, 0.05, tuned_for=(tuned_for,))
    assert (relative, spread) == pytest.approx((estimate, error), abs=1e-5)
    assert (relative - width, relative + width) == pytest.approx((low, high), abs=2e-5)


@pytest.mark.parametrize("observations", [300, 1_000, 10_000, 100_000, 1_000_000])
def test_two_tunings_are_never_far_from_the_best_one(observations: int) -> None:
    best = minimize_scalar(
        lambda power: normal_deviations(observations, 0.05, tuned_for=(exp(power),)), bounds=(1, 20), method="bounded"
    ).fun
    assert best <= normal_deviations(observations, 0.05) < 7 / 6 * best


def test_the_boundary_is_where_the_mixed_capital_is_one_over_alpha() -> None:
    deviations = normal_deviations(12_345, 0.01, tuned_for=(500, 20_000))
    best = -2 * log(0.01) + np.log1p(-2 * log(0.01))
    gains = best * 12_345 / np.array([500, 20_000])
    # The normal mixture in closed form: Howard et al. 2021, proposition 5.
    capital = np.mean(np.exp(deviations**2 / 2 * gains / (1 + gains)) / np.sqrt(1 + gains))
    assert capital == pytest.approx(100)


def test_few_degrees_of_freedom_widen() -> None:
    widths = [normal_deviations(1000, 0.05, freedom=freedom) for freedom in (5, 50, 500, inf)]
    assert widths == sorted(widths, reverse=True)
    assert normal_deviations(1000, 0.05, freedom=1e9) == pytest.approx(widths[-1], rel=1e-6)
    assert normal_deviations(0, 0.05) == inf


@given(st.integers(1, 100_000), st.floats(0, 1), st.sampled_from([0.001, 0.05, 0.2]))
def test_a_proportion_is_between_chances_that_a_bet_has_not_ruled_out(trials: int, part: float, alpha: float) -> None:
    successes = round(part * trials)
    interval = proportion(successes, trials, alpha)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
    if interval.low > 1e-9:
        assert log_capital(successes, trials, interval.low) == pytest.approx(log(1 / alpha), rel=1e-4)
    if interval.high < 1 - 1e-9:
        assert log_capital(trials - successes, trials, 1 - interval.high) == pytest.approx(log(1 / alpha), rel=1e-4)


@pytest.mark.parametrize(("trials", "at_most"), [(100, 0.06), (1_000, 0.008), (100_000, 0.0001)])
def test_none_of_many_leaves_little(trials: int, at_most: float) -> None:
    assert proportion(0, trials, 0.05).low == 0
    assert proportion(0, trials, 0.05).high < at_most
    assert proportion(trials, trials, 0.05).low > 1 - at_most


def test_of_no_trials_nothing_is_known() -> None:
    assert proportion(0, 0, 0.05) == Interval(0, 0, 1)


def test_quantiles_of_few_values_are_not_known() -> None:
    assert quantile_ranks(20, 0.95, 0.05) is None
    assert quantile_ranks(0, 0.5, 0.05) is None


def test_the_ranks_of_a_quantile_close_in() -> None:
    for count, within in ((1_000, 0.05), (10_000, 0.015), (1_000_000, 0.002)):
        ranks = quantile_ranks(count, 0.95, 0.05)
        assert ranks is not None
        assert 0 < 0.95 - ranks[0] / count < within
        assert 0 < ranks[1] / count - 0.95 < within
