"""Statistics of paired answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from worker.evaluation.statistics import QUANTILE_90, paired_test, wilson_interval


@pytest.mark.parametrize(
    # McNemar's exact test: twice the binomial tail at one half.
    ("lost", "gained", "p_value"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 0.0625), (10, 2, 0.038574), (20, 4, 0.0015450), (7, 7, 1.0)],
)
def test_the_p_value_is_that_of_the_exact_test(lost: int, gained: int, p_value: float) -> None:
    assert paired_test(lost, gained, 1000).p_value == pytest.approx(p_value, rel=1e-3)


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 2000))
def test_the_test_is_even_handed_and_its_interval_holds_together(lost: int, gained: int, others: int) -> None:
    samples = lost + gained + others + 1
    one, other = paired_test(lost, gained, samples), paired_test(gained, lost, samples)
    assert one.p_value == other.p_value
    assert 0.0 < one.p_value <= 1.0
    assert one.change_points == -other.change_points
    assert one.low_points == pytest.approx(-other.high_points)
    assert -100.0 <= one.low_points <= one.high_points <= 100.0


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    chances = [0.03, 0.01, 0.96]
    covered = 0
    for _ in range(400):
        lost, gained, _ = random.multinomial(1500, chances)
        found = paired_test(int(lost), int(gained), 1500)
        covered += found.low_points <= -2.0 <= found.high_points
    assert 0.92 < covered / 400 < 0.98


@given(st.integers(1, 5000).flatmap(lambda samples: st.tuples(st.integers(0, samples), st.just(samples))))
def test_the_interval_of_a_share_is_wilsons(counts: tuple[int, int]) -> None:
    equal, samples = counts
    expected = binomtest(equal, samples).proportion_ci(0.95, method="wilson")
    assert wilson_interval(equal / samples, samples) == pytest.approx((expected.low, expected.high), abs=1e-6)
    one_sided = binomtest(equal, samples, alternative="greater").proportion_ci(0.95, method="wilson")
    assert wilson_interval(equal / samples, samples, QUANTILE_90)[0] == pytest.approx(one_sided.low, abs=1e-6)
