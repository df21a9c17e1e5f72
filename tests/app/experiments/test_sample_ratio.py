import numpy as np
import pytest
from scipy.stats import chisquare

from app.experiments.sample_ratio import SampleRatio, sample_ratio

HALVES = {"original": 50, "int8": 50}


def split(original: int, int8: int) -> SampleRatio:
    return sample_ratio({"original": original, "int8": int8}, HALVES)


def test_the_p_value_is_pearsons() -> None:
    assert split(5200, 4800).p_value == pytest.approx(chisquare([5200, 4800]).pvalue)
    three = sample_ratio({"a": 900, "b": 70, "c": 30}, {"a": 0.45, "b": 0.04, "c": 0.01})
    assert three.p_value == pytest.approx(chisquare([900, 70, 30], [900, 80, 20]).pvalue)


def test_a_fair_split_is_none() -> None:
    assert not split(5030, 4970).mismatch
    assert split(500, 500) == SampleRatio(1.0, 1.0, mismatch=False)


def test_48_to_52_is_one() -> None:
    found = split(10_400, 9_600)
    assert found.mismatch
    assert found.anytime_p_value < 0.001


def test_gross_ones_are_as_growthbook_has_them() -> None:
    """Published in its tests (MIT): 500 to 500 is above 0.05 at any time, 100 to 900 below."""
    assert split(500, 500).anytime_p_value > 0.05
    assert split(100, 900).anytime_p_value < 0.05


def test_of_few_units_nothing_is_said() -> None:
    assert split(15, 0) == SampleRatio(None, 1.0, mismatch=False)
    assert split(16, 0).mismatch
    assert sample_ratio({}, HALVES).p_value is None


def test_arms_without_a_share_are_left_out() -> None:
    shares = {"original": 1, "int8": 1, "stopped": 0}
    assert sample_ratio({"original": 500, "int8": 510, "stopped": 77}, shares) == split(500, 510)
    assert sample_ratio({"original": 500}, {"original": 1, "int8": 0}).p_value is None


def test_the_anytime_p_value_is_a_mixture_over_shares() -> None:
    """Of two arms: the mean likelihood under Beta(500, 500), over that of halves."""
    shares = np.random.default_rng(1).beta(500, 500, 200_000)
    likelihood = np.mean(np.exp(560 * np.log(2 * shares) + 440 * np.log(2 * (1 - shares))))
    assert split(560, 440).anytime_p_value == pytest.approx(1 / likelihood, rel=0.05)
