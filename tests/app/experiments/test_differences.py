from math import inf

import numpy as np
import pytest

from app.experiments.assignment import BUCKETS
from app.experiments.differences import (
    MINIMUM_CLUSTERS,
    degrees_of_freedom,
    difference,
    exact_proportion,
    fixed_difference,
    latency_quantile,
    quantile_ratio,
)
from app.experiments.moments import Moments
from app.experiments.sequences import Interval
from app.experiments.sketch import Latencies


def proportion_of(events: int, units: int) -> Moments:
    return Moments.of_values(units, events, events, proportion=True)


def latencies_of(values: np.ndarray, buckets: np.ndarray) -> Latencies:
    latencies = Latencies()
    for bucket, value in zip(buckets.tolist(), values.tolist(), strict=True):
        latencies.add(bucket, value)
    return latencies


def test_the_fixed_interval_is_growthbooks() -> None:
    """Published in GrowthBook's tests of its statistics (MIT): the absolute difference of two means."""
    control, arm = Moments.of_values(3407, 1396.87, 52377.9767), Moments.of_values(3461, 2422.7, 134698.29)
    interval, p_value = fixed_difference(control, arm, 0.05)
    assert (interval.low, interval.estimate, interval.high) == pytest.approx((0.04538, 0.29, 0.53462), abs=1e-5)
    assert p_value == pytest.approx(0.02016, abs=1e-5)


def test_the_fixed_interval_of_rates_is_that_of_posthog() -> None:
    """Published in PostHog's tests (MIT): sums by unit of a ratio, and of the relative difference the estimate, the
    interval and the p-value.
    """
    control = Moments(2034, 99673.9364269569, 947, 11298745.182728939, 947, 99673.9364269569, False)
    arm = Moments(1966, 94605.79858780127, 936, 10463129.505392816, 936, 94605.79858780127, False)
    # They name the one that is compared first.
    relative = [moments.rate for moments in (control, arm)]
    assert relative[0] / relative[1] - 1 == pytest.approx(0.041333, abs=1e-4)
    error = (control.variance + arm.variance * (relative[0] / relative[1]) ** 2) ** 0.5 / relative[1]
    assert relative[0] / relative[1] - 1 - 1.9606 * error == pytest.approx(0.01378609, abs=1e-4)
    assert relative[0] / relative[1] - 1 + 1.9606 * error == pytest.approx(0.0689, abs=1e-4)


def test_welchs_degrees_of_freedom() -> None:
    equal = Moments.of([1.0, 2.0, 3.0, 4.0])
    assert degrees_of_freedom(equal, equal) == pytest.approx(6)
    assert degrees_of_freedom(Moments.of([1.0, 1.0]), equal) == pytest.approx(3)


def test_a_difference_closes_in_on_the_truth() -> None:
    widths = []
    for units in (1_000, 10_000, 100_000):
        interval = difference(proportion_of(units // 5, units), proportion_of(units // 4, units), 0.05)
        assert interval.low < 0.05 < interval.high
        widths.append(interval.high - interval.low)
    assert widths[0] > 2.5 * widths[1] > 6 * widths[2]


def test_before_there_are_enough_clusters_only_proportions_are_compared() -> None:
    few = MINIMUM_CLUSTERS - 1
    assert difference(Moments.of([1.0, 5.0] * 20), Moments.of([2.0, 7.0] * 20), 0.05) == Interval(-inf, 1.5, inf)
    exact = difference(proportion_of(20, few), proportion_of(50, few), 0.05)
    assert -1 <= exact.low < exact.estimate < exact.high <= 1


def test_an_arm_that_always_fails_is_found_in_some_dozens_of_units() -> None:
    assert difference(proportion_of(0, 20), proportion_of(20, 20), 0.05 / 4).low > 0.1


@pytest.mark.parametrize("requests", [1_000, 10_000, 1_000_000])
@pytest.mark.parametrize("failed", [1.0, 0.9999])
def test_an_arm_that_fails_as_good_as_always_is_found_however_late_one_looks(requests: int, failed: float) -> None:
    """Neither arm varies then, or next to nothing, which says nothing of how sure the difference is."""
    each = requests / BUCKETS
    control = Moments.of([0.0] * BUCKETS, [each] * BUCKETS)
    arm = Moments.of([each * failed] * BUCKETS, [each] * BUCKETS)
    found = difference(control, arm, 0.05)
    assert 0.9 < found.low < found.estimate == pytest.approx(failed)


def test_arms_whose_clusters_all_have_the_same_rate_are_compared() -> None:
    control, arm = (Moments.of([rate * 100] * BUCKETS, [100.0] * BUCKETS) for rate in (0.1, 0.2))
    found = difference(control, arm, 0.05)
    assert 0.05 < found.low < found.estimate == pytest.approx(0.1)
    assert found.high < 0.15


def test_one_client_whose_requests_all_fail_is_no_proof() -> None:
    arm = Moments.of([500, *[0] * 40], [500, *[5] * 40])
    control = Moments.of([0] * 41, [12] * 41)
    assert difference(control, arm, 0.05).low < 0


def test_services_without_errors_are_shown_to_be_as_good() -> None:
    """Where nothing fails there is no variance to go by, and a margin is kept to all the same."""
    clean = Moments.of([0] * 256, [40] * 256)
    assert difference(clean, clean, 0.05).high < 0.002
    few = Moments.of([0] * 256, [1] * 256)
    assert difference(few, few, 0.05).high > 0.002


def test_requests_in_unison_count_as_one() -> None:
    rng = np.random.default_rng(1)
    failing = (rng.random(200) < 0.3).astype(float)
    alike = Moments.of((failing * 50).tolist(), [50] * 200)
    apart = Moments.of(rng.binomial(50, 0.3, 200).tolist(), [50] * 200)
    lone = exact_proportion(Moments.of(failing.tolist()), 0.05)
    assert exact_proportion(alike, 0.05).low == pytest.approx(lone.low, abs=0.02)
    assert exact_proportion(apart, 0.05).low > lone.low + 0.03


def test_nothing_is_known_of_what_was_not_seen() -> None:
    assert difference(Moments(), proportion_of(1, 1000), 0.05) == Interval(-inf, 0, inf)
    assert not quantile_ratio(Latencies(), Latencies(), 0.95, 0.05).known
    assert not latency_quantile(Latencies(), 0.95, 0.05).known


def test_values_that_are_all_the_same_prove_nothing() -> None:
    same = Moments.of_values(1000, 5000, 25_000)
    assert not difference(same, same, 0.05).known


def test_a_ratio_of_latencies_has_the_truth_between_its_bounds() -> None:
    rng = np.random.default_rng(2)
    control = latencies_of(rng.lognormal(15, 0.5, 20_000), rng.integers(0, 256, 20_000))
    arm = latencies_of(1.2 * rng.lognormal(15, 0.5, 20_000), rng.integers(0, 256, 20_000))
    for q in (0.5, 0.95):
        ratio = quantile_ratio(control, arm, q, 0.05)
        assert 0.05 < ratio.low < 0.2 < ratio.high < 0.4


def test_latencies_that_differ_by_client_tell_less() -> None:
    rng = np.random.default_rng(3)
    clients = rng.integers(0, 60, 20_000)
    alike = latencies_of(rng.lognormal(15, 0.5, 20_000), clients)
    by_client = latencies_of(np.exp(15 + 0.5 * rng.normal(size=60))[clients], clients)
    widths = [
        (each.high - each.low) / each.estimate
        for each in (latency_quantile(it, 0.5, 0.05) for it in (alike, by_client))
    ]
    assert widths[1] > 3 * widths[0]


def test_latencies_of_one_client_tell_nothing() -> None:
    values = np.random.default_rng(4).lognormal(15, 0.5, 2000)
    assert not latency_quantile(latencies_of(values, np.zeros(2000, int)), 0.5, 0.05).known
