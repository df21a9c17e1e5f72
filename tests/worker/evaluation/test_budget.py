"""The verdict, and its reasons in words."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.evaluation.budget import Budget, PairedTest, judge, paired_test
from worker.evaluation.heldout import Comparison
from worker.evaluation.latency import Latencies, Percentiles

SAME = Percentiles(1.0, 1.1, 1.2)
FAST = Latencies(SAME, SAME, speedup=2.0, low=1.9, high=2.1, pairs=100)
LABELLED = Comparison(
    samples=1000,
    original_accuracy=0.8,
    variant_accuracy=0.796,
    agreement=0.9,
    cosine=0.9,
    sqnr_db=20.0,
    lost=10,
    gained=6,
    outputs=(),
    notes=(),
)
UNLABELLED = replace(LABELLED, original_accuracy=None, variant_accuracy=None, lost=None, gained=None)
EMBEDDING = replace(UNLABELLED, agreement=None, cosine=0.995)
DEFAULT = Budget(max_accuracy_drop=0.01, min_speedup=None)


def test_what_keeps_to_its_budget_is_accepted_without_a_word() -> None:
    assert judge(DEFAULT, LABELLED, FAST) == judge(DEFAULT, None, FAST) == judge(DEFAULT, EMBEDDING, FAST)
    assert judge(DEFAULT, LABELLED, FAST).verdict == "accepted"
    assert judge(DEFAULT, LABELLED, FAST).reasons == ()


def test_a_drop_of_accuracy_is_relative_to_the_originals() -> None:
    worse = replace(LABELLED, variant_accuracy=0.76, lost=50, gained=10)
    assert judge(Budget(0.051, None), worse, FAST).verdict == "accepted"
    verdict = judge(Budget(0.049, None), worse, FAST)
    assert verdict.verdict == "rejected"
    [reason] = verdict.reasons
    assert "from 80.00% to 76.00%, by 5.00%" in reason
    assert "max_accuracy_drop=0.049" in reason
    assert "50 samples lost and 10 gained, beyond noise" in reason


def test_a_drop_that_may_be_chance_is_a_warning() -> None:
    verdict = judge(Budget(0.004, None), LABELLED, FAST)
    assert (verdict.verdict, verdict.reasons) == ("accepted", ())
    [warning] = verdict.warnings
    assert "10 samples lost and 6 gained, within what chance may do" in warning
    assert "judge it on more" in warning


@pytest.mark.parametrize(("lost", "verdict"), [(4, "accepted"), (5, "rejected")])
def test_a_few_samples_that_all_go_one_way_are_enough(lost: int, verdict: str) -> None:
    few = replace(LABELLED, samples=20, original_accuracy=1.0, variant_accuracy=1 - lost / 20, lost=lost, gained=0)
    assert judge(DEFAULT, few, FAST).verdict == verdict


def test_no_loss_at_all_leaves_nothing_to_chance() -> None:
    assert judge(Budget(0.0, None), LABELLED, FAST).verdict == "rejected"
    assert judge(Budget(0.0, None), replace(UNLABELLED, agreement=0.999), FAST).verdict == "rejected"


def test_changed_answers_must_be_enough_to_tell() -> None:
    changed = replace(UNLABELLED, agreement=0.985)
    assert judge(DEFAULT, replace(changed, samples=200), FAST).verdict == "accepted"
    assert judge(DEFAULT, replace(changed, samples=200), FAST).warnings
    assert judge(DEFAULT, replace(changed, samples=2000), FAST).verdict == "rejected"


def test_a_drop_beyond_noise_is_said_to_be() -> None:
    worse = replace(LABELLED, variant_accuracy=0.75, lost=55, gained=5)
    assert "beyond noise" in judge(DEFAULT, worse, FAST).reasons[0]


def test_without_labels_every_answer_that_changed_counts() -> None:
    assert "10.00% of 1000 held-out samples changed" in judge(DEFAULT, UNLABELLED, FAST).reasons[0]
    assert judge(Budget(0.1, None), UNLABELLED, FAST).verdict == "accepted"


def test_embeddings_are_judged_by_their_cosine() -> None:
    assert "0.9950" in judge(Budget(0.001, None), EMBEDDING, FAST).reasons[0]


def test_a_variant_below_the_speed_asked_for_is_rejected_with_the_interval() -> None:
    verdict = judge(Budget(1.0, 2.5), None, FAST)
    assert verdict.verdict == "rejected"
    assert "2.00 times" in verdict.reasons[0]
    assert "1.90 to 2.10" in verdict.reasons[0]


def test_every_reason_is_given() -> None:
    assert len(judge(Budget(0.0, 3.0), LABELLED, FAST).reasons) == 2


def test_more_accurate_is_within_any_budget() -> None:
    better = replace(LABELLED, variant_accuracy=0.81, lost=6, gained=16)
    assert judge(Budget(0.0, None), better, FAST).verdict == "accepted"


def test_an_original_that_is_never_right_cannot_be_outdone() -> None:
    hopeless = replace(LABELLED, original_accuracy=0.0, variant_accuracy=0.0, lost=0, gained=0)
    assert judge(DEFAULT, hopeless, FAST).verdict == "accepted"


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


def test_without_labels_there_is_no_test() -> None:
    assert PairedTest.of(UNLABELLED) is None
    assert PairedTest.of(LABELLED) == paired_test(10, 6, 1000)
