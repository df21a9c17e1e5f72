"""Calibration and evaluation never see the same sample."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from worker.evaluation.split import split


@given(
    samples=st.integers(1, 300),
    seed=st.integers(0, 2**32 - 1),
    calibration=st.integers(1, 300),
    evaluation=st.integers(1, 300),
)
def test_parts_are_disjoint_of_distinct_samples_and_within_their_limits(
    samples: int, seed: int, calibration: int, evaluation: int
) -> None:
    parts = split(samples, seed=seed, calibration_samples=calibration, evaluation_samples=evaluation)
    every = np.concatenate([parts.calibration, parts.evaluation])
    assert len(set(every.tolist())) == len(every)
    assert set(every.tolist()) <= set(range(samples))
    assert len(parts.calibration) == min(calibration, samples // 2)
    assert len(parts.evaluation) == min(evaluation, samples - len(parts.calibration))


def test_the_seed_makes_the_split() -> None:
    first, again, other = (
        split(100, seed=seed, calibration_samples=20, evaluation_samples=30).as_json() for seed in (1, 1, 2)
    )
    assert first == again
    assert first["calibration_digest"] != other["calibration_digest"]
    assert first["evaluation_digest"] != other["evaluation_digest"]
    assert (first["calibration_samples"], first["evaluation_samples"]) == (20, 30)


def test_in_a_large_dataset_all_are_judged_on_the_same_samples_however_many_calibrate() -> None:
    few, many = (split(1000, seed=0, calibration_samples=n, evaluation_samples=200) for n in (16, 400))
    np.testing.assert_array_equal(few.evaluation, many.evaluation)
