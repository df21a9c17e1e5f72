import json
from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from app.experiments.paired import disagreement, mcnemar, mean_speedup, speedup
from app.experiments.pairs import Pairs

one_pair = st.fixed_dictionaries(
    {
        "control_ns": st.integers(0, 10**12),
        "variant_ns": st.integers(0, 10**12),
        "agree": st.none() | st.booleans(),
        "cosine": st.none() | st.just(0.5),
        "max_abs_difference": st.floats(0, 100),
    }
)


def pairs_of(added: list[dict[str, object]]) -> Pairs:
    pairs = Pairs()
    for each in added:
        pairs.add(**each)  # type: ignore[arg-type]
    return pairs


def labelled(lost: int, won: int, total: int) -> Pairs:
    return Pairs(labelled=total, control_only=lost, variant_only=won)


@given(st.lists(one_pair, max_size=20), st.lists(one_pair, max_size=20))
def test_merging_is_counting_all_together(first: list[dict[str, object]], second: list[dict[str, object]]) -> None:
    merged, together = pairs_of(first), pairs_of(first + second)
    merged.merge(pairs_of(second))
    assert merged.ratios == together.ratios
    numbers = [{**vars(pairs), "ratios": 0} for pairs in (merged, together)]
    assert numbers[0] == pytest.approx(numbers[1])


@given(st.lists(one_pair, max_size=20))
def test_pairs_come_back_from_json(added: list[dict[str, object]]) -> None:
    pairs = pairs_of(added)
    pairs.add_labels(3, 2, 1)
    assert Pairs.from_json(json.loads(json.dumps(pairs.to_json()))) == pairs


def test_answers_without_a_top_1_are_not_compared() -> None:
    pairs = Pairs()
    pairs.add(control_ns=2, variant_ns=1, agree=None, cosine=None, max_abs_difference=0.5)
    pairs.add(control_ns=2, variant_ns=1, agree=False, cosine=0.9, max_abs_difference=0.1)
    assert disagreement(pairs, 0.05).estimate == 1
    assert pairs.mean_cosine == 0.9
    assert pairs.max_abs_difference == 0.5
    assert Pairs().mean_cosine is None


def test_a_speedup_is_seen_through_what_disturbs_both() -> None:
    rng = np.random.default_rng(1)
    pairs = Pairs()
    for load in rng.lognormal(15, 2, 500):
        ratio = 2.9 * rng.lognormal(0, 0.1)
        pairs.add(control_ns=int(load), variant_ns=int(load / ratio), agree=True, cosine=1.0, max_abs_difference=0.0)
    for interval in (speedup(pairs, 0.5, 0.05), mean_speedup(pairs, 0.05)):
        assert 2.7 < interval.low < 2.9 < interval.high < 3.1
        assert interval.estimate == pytest.approx(2.9, rel=0.02)


def test_the_mean_speedup_is_the_geometric_one() -> None:
    pairs = Pairs(count=2, log_ratio=log(2) + log(8), log_ratio_squares=log(2) ** 2 + log(8) ** 2)
    assert mean_speedup(pairs, 0.05).estimate == pytest.approx(4)
    assert not speedup(pairs, 0.5, 0.05).known


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemars_p_value_is_the_exact_binomial_one(lost: int, won: int) -> None:
    expected = binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert mcnemar(labelled(lost, won, 1000), 0.05).p_value == pytest.approx(expected)


def test_who_looks_all_the_time_needs_more() -> None:
    test = mcnemar(labelled(10, 30, 1000), 0.05)
    assert test.p_value < 0.01 < test.anytime_p_value < 0.1
    assert mcnemar(labelled(10, 60, 1000), 0.05).anytime_p_value < 1e-6
    assert mcnemar(labelled(20, 20, 1000), 0.05).anytime_p_value == 1


@pytest.mark.parametrize(("lost", "won", "total"), [(0, 0, 1000), (3, 5, 1000), (10, 60, 1000), (300, 200, 5000)])
def test_the_change_of_right_answers_is_between_its_bounds(lost: int, won: int, total: int) -> None:
    change = mcnemar(labelled(lost, won, total), 0.05).change
    assert change.estimate == pytest.approx((won - lost) / total)
    assert -1 <= change.low < change.estimate < change.high <= 1


def test_a_clear_change_is_found() -> None:
    assert mcnemar(labelled(10, 60, 1000), 0.05).change.low > 0
    assert mcnemar(labelled(60, 10, 1000), 0.05).change.high < 0
