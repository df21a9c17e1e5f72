"""The verdict, and its reasons in words."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.worker.evaluation.comparisons import comparison
from worker.evaluation.budget import Budget, Verdict
from worker.evaluation.budget import judge as judge_comparison
from worker.evaluation.latency import Latencies, Percentiles

SAME = Percentiles(1.0, 1.1, 1.2)
FAST = Latencies(SAME, SAME, speedup=2.0, low=1.9, high=2.1, pairs=100)
UNLABELLED: Mapping[str, Any] = {"samples": 1000, "agreement": 0.9, "cosine": 0.9}
LABELLED: Mapping[str, Any] = {**UNLABELLED, "original": 0.8, "variant": 0.796, "lost": 10, "gained": 6}
EMBEDDING: Mapping[str, Any] = {"samples": 1000, "cosine": 0.995}
DEFAULT = Budget(max_accuracy_drop=0.01, min_speedup=None)


def judge(budget: Budget, figures: Mapping[str, Any] | None, latencies: Latencies) -> Verdict:
    return judge_comparison(budget, comparison(**figures) if figures is not None else None, latencies)


def test_what_keeps_to_its_budget_is_accepted_without_a_word() -> None:
    assert judge(DEFAULT, LABELLED, FAST) == judge(DEFAULT, None, FAST) == judge(DEFAULT, EMBEDDING, FAST)
    assert judge(DEFAULT, LABELLED, FAST).verdict == "accepted"
    assert judge(DEFAULT, LABELLED, FAST).reasons == ()


def test_a_drop_of_accuracy_is_relative_to_the_originals() -> None:
    worse = {**LABELLED, "variant": 0.76, "lost": 50, "gained": 10}
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
    few = {**LABELLED, "samples": 20, "original": 1.0, "variant": 1 - lost / 20, "lost": lost, "gained": 0}
    assert judge(DEFAULT, few, FAST).verdict == verdict


def test_no_loss_at_all_leaves_nothing_to_chance() -> None:
    assert judge(Budget(0.0, None), LABELLED, FAST).verdict == "rejected"
    assert judge(Budget(0.0, None), {**UNLABELLED, "agreement": 0.999}, FAST).verdict == "rejected"


def test_changed_answers_must_be_enough_to_tell() -> None:
    changed = {**UNLABELLED, "agreement": 0.985}
    assert judge(DEFAULT, {**changed, "samples": 200}, FAST).verdict == "accepted"
    assert judge(DEFAULT, {**changed, "samples": 200}, FAST).warnings
    assert judge(DEFAULT, {**changed, "samples": 2000}, FAST).verdict == "rejected"


def test_a_drop_beyond_noise_is_said_to_be() -> None:
    worse = {**LABELLED, "variant": 0.75, "lost": 55, "gained": 5}
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
    better = {**LABELLED, "variant": 0.81, "lost": 6, "gained": 16}
    assert judge(Budget(0.0, None), better, FAST).verdict == "accepted"


def test_an_original_that_is_never_right_cannot_be_outdone() -> None:
    hopeless = {**LABELLED, "original": 0.0, "variant": 0.0, "lost": 0, "gained": 0}
    assert judge(DEFAULT, hopeless, FAST).verdict == "accepted"
