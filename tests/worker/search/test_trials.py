"""What trials are judged and compared by."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.evaluation.comparisons import comparison
from worker.evaluation.heldout import Comparison
from worker.search.trials import Trial, expected_drop, front


def _comparison(
    lost: int | None, gained: int | None, *, agreement: float | None = 0.99, cosine: float | None = 0.999
) -> Comparison:
    accuracy = None if lost is None else 0.8
    return comparison(
        original=accuracy, variant=accuracy, lost=lost or 0, gained=gained or 0, agreement=agreement, cosine=cosine
    )


def _trial(name: str, sqnr_db: float | None, speedup: float, size: int = 100, drop: float = 0.0) -> Trial:
    return Trial(frozenset({name}), drop, None, None, sqnr_db, 1.0, speedup, size)


def test_no_answer_that_turned_is_no_drop() -> None:
    assert expected_drop(_comparison(0, 0)) == 0.0


def test_a_lucky_gain_counts_for_little_and_a_real_loss_for_nearly_all() -> None:
    assert 0.0 > expected_drop(_comparison(2, 10)) > -0.25 * 8 / 1000 / 0.8
    assert expected_drop(_comparison(200, 20)) == pytest.approx(180 / 1000 / 0.8, rel=0.1)


@given(lost=st.integers(0, 300), gained=st.integers(0, 300))
def test_one_more_lost_answer_never_lowers_the_drop(lost: int, gained: int) -> None:
    assert expected_drop(_comparison(lost + 1, gained)) > expected_drop(_comparison(lost, gained))


def test_without_labels_every_top_1_that_changed_counts() -> None:
    assert expected_drop(_comparison(None, None, agreement=0.97)) == pytest.approx(0.03)


def test_without_classes_the_cosine_counts() -> None:
    assert expected_drop(_comparison(None, None, agreement=None, cosine=0.98)) == pytest.approx(0.02)


_TRIALS = st.lists(
    st.builds(
        Trial,
        kept=st.frozensets(st.sampled_from("abcdefgh")),
        drop=st.one_of(st.floats(0.0, 1.0), st.just(math.inf)),
        accuracy=st.none(),
        agreement=st.none(),
        sqnr_db=st.one_of(st.floats(0.0, 60.0)),
        latency_ms=st.just(1.0),
        speedup=st.floats(0.5, 4.0),
        size_bytes=st.integers(1, 100),
    ),
    max_size=12,
)


@given(_TRIALS)
def test_the_front_is_what_none_dominates(trials: list[Trial]) -> None:
    points = front(trials)
    usable = [trial for trial in trials if trial.drop < math.inf]
    assert all(point in usable for point in points)
    assert not any(one.dominates(other) for one in points for other in points)
    assert all(trial in points or any(point.dominates(trial) for point in points) for trial in usable)
    assert [point.speedup for point in points] == sorted((point.speedup for point in points), reverse=True)


def test_a_trial_without_finite_answers_is_no_point() -> None:
    assert front([_trial("a", 20.0, 2.0), _trial("b", None, 9.0, drop=math.inf)]) == [_trial("a", 20.0, 2.0)]


def test_equal_trials_do_not_dominate_each_other() -> None:
    one = _trial("a", 20.0, 2.0)
    assert not one.dominates(replace(one, kept=frozenset({"b"})))
