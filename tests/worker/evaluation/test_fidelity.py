"""SQNR and cosine, summed over batches."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from tests.worker import models
from worker.evaluation.fidelity import MeanCosine, NotFinite, SignalAndNoise, finite_or_none, sqnr_db

_arrays = hnp.arrays(
    np.float32,
    hnp.array_shapes(max_dims=3, max_side=6),
    elements=st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False),
)


def test_it_is_the_textbook_ratio() -> None:
    assert sqnr_db(np.array([3.0, 4.0]), np.array([3.0, 4.5])) == pytest.approx(10 * math.log10(25 / 0.25))
    assert sqnr_db(np.array([10.0]), np.array([9.0])) == pytest.approx(20.0)


@given(_arrays)
def test_equal_arrays_are_infinitely_close(values: NDArray[np.float32]) -> None:
    assert sqnr_db(values, values.copy()) == math.inf


@given(_arrays, st.integers(-10, 10))
def test_it_does_not_depend_on_the_unit(values: NDArray[np.float32], exponent: int) -> None:
    factor = 2.0**exponent
    noisy = values.astype(np.float64) + np.linspace(0.5, 1.5, values.size).reshape(values.shape)
    assert sqnr_db(values * factor, noisy * factor) == pytest.approx(sqnr_db(values, noisy), abs=1e-6)


@given(_arrays, st.integers(0, 5))
def test_batches_add_up_to_the_whole(values: NDArray[np.float32], cut: int) -> None:
    noisy = values.astype(np.float64) + 1.0
    sums = SignalAndNoise()
    for part in (slice(None, cut), slice(cut, None)):
        sums.add(values[part], noisy[part])
    assert sums.sqnr_db == pytest.approx(sqnr_db(values, noisy), rel=1e-9)


def test_noise_without_a_signal_is_infinitely_far() -> None:
    assert sqnr_db(np.zeros(3), np.ones(3)) == -math.inf


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_it_is_never_nan(bad: float) -> None:
    for left, right in (([1.0, bad], [1.0, 1.0]), ([1.0, 1.0], [1.0, bad]), ([bad], [bad])):
        with pytest.raises(NotFinite):
            sqnr_db(np.array(left), np.array(right))


def test_integers_of_half_precision_do_not_overflow() -> None:
    assert math.isfinite(sqnr_db(np.full(9, 60000, np.float16), np.full(9, 59000, np.float16)))


@given(_arrays.filter(lambda values: values.ndim > 1), st.floats(0.01, 100))
def test_cosine_ignores_length_and_keeps_within_one(values: NDArray[np.float32], factor: float) -> None:
    mean = MeanCosine()
    mean.add(values, values.astype(np.float64) * factor)
    assert mean.value == pytest.approx(1.0, abs=1e-6)
    other = MeanCosine()
    other.add(values, -values.astype(np.float64) * factor)
    assert other.value is not None
    assert -1.0 <= other.value <= 1.0


def test_cosine_is_the_mean_over_rows_of_all_batches() -> None:
    mean = MeanCosine()
    mean.add(np.array([[1.0, 0.0]]), np.array([[1.0, 1.0]]))
    mean.add(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[0.0, 1.0], [0.0, 1.0]]))
    assert mean.value == pytest.approx((math.sqrt(0.5) + 0.0 + 1.0) / 3)


def test_zero_vectors_are_equal_to_each_other_only() -> None:
    mean = MeanCosine()
    mean.add(np.zeros((1, 4)), np.zeros((1, 4)))
    mean.add(np.zeros((1, 4)), np.ones((1, 4)))
    assert mean.value == 0.5


def test_reports_hold_no_infinity() -> None:
    assert finite_or_none(math.inf) is None
    assert finite_or_none(math.nan) is None
    assert finite_or_none(None) is None
    assert finite_or_none(3.5) == 3.5


def test_large_streams_keep_their_precision() -> None:
    reference, noisy = models.normal(100, 100), models.normal(100, 100, seed=1)
    whole = sqnr_db(reference, noisy)
    sums = SignalAndNoise()
    for left, right in zip(reference, noisy, strict=True):
        sums.add(left, right)
    assert sums.sqnr_db == pytest.approx(whole, abs=1e-9)
