"""Scales of weights: nothing lost where nothing is clipped, and less error where they are searched."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from tests.worker import models
from worker.graph.integer_types import choose
from worker.graph.weights import largest_integer, plain_scales, rounded, searched_scales, weights

_WEIGHTS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.integers(1, 40)),
    elements=st.floats(-1000, 1000, width=32, allow_subnormal=False),
)
_LARGEST = st.sampled_from((64, 127))


def _error(values: NDArray[np.float32], scales: NDArray[np.float32], largest: int) -> NDArray[np.float64]:
    return np.square(rounded(values, scales, largest).astype(np.float64) - values).sum(axis=1)


@given(_WEIGHTS, _LARGEST)
def test_plain_scales_clip_nothing(values: NDArray[np.float32], largest: int) -> None:
    scales = plain_scales(values, largest)
    tolerance = scales[:, None] * np.float32(0.5001) + np.abs(values) * np.float32(1e-5)
    assert (np.abs(rounded(values, scales, largest) - values) <= tolerance).all()


@given(_WEIGHTS, _LARGEST)
def test_searched_scales_never_err_more_than_plain_ones(values: NDArray[np.float32], largest: int) -> None:
    plain, searched = plain_scales(values, largest), searched_scales(values, largest)
    assert (_error(values, searched, largest) <= _error(values, plain, largest) * (1 + 1e-4) + 1e-12).all()
    assert (searched <= plain).all()


def test_an_outlier_among_many_small_weights_is_clipped() -> None:
    values = models.normal(1, 20_000, scale=0.01)
    values[0, 0] = 0.06
    searched = searched_scales(values, 7)
    assert searched[0] < 0.8 * plain_scales(values, 7)[0]


def test_weights_whose_inputs_are_silent_do_not_count() -> None:
    values = np.concatenate([models.normal(1, 500, scale=0.1), np.full((1, 1), 1.0, np.float32)], axis=1)
    silent = np.ones(501)
    silent[-1] = 0.0
    assert searched_scales(values, 127, silent)[0] == pytest.approx(0.5 / 127, rel=0.03)


def test_a_channel_of_zeros_takes_the_smallest_scale_of_the_others() -> None:
    values = np.array([[0, 0], [1, -2], [0.5, 0.25]], np.float32)
    assert plain_scales(values, 127) == pytest.approx(np.array([0.5, 2.0, 0.5]) / 127)
    assert plain_scales(np.zeros((2, 3), np.float32), 127) == pytest.approx([1 / 127] * 2)


def test_each_weight_is_seen_by_its_output_channels() -> None:
    found = {weight.name: weight for weight in weights(models.classifier(), frozenset({"conv1"}), per_channel=True)}
    assert found["w1"].values.shape == (8, 27)
    assert found["w1"].axis == 0


def test_the_importance_of_an_input_reaches_all_of_its_kernel_and_only_its_group() -> None:
    [weight] = weights(
        models.model(
            [models.helper.make_node("Conv", ["x", "w"], ["y"], "conv", group=2)],
            {"x": ["n", 4, 3, 3]},
            {"y": None},
            {"w": models.normal(2, 2, 3, 3)},
        ),
        frozenset({"conv"}),
        per_channel=True,
    )
    powers = np.array([0.0, 0.0, 1.0, 2.0])
    assert (weight.searched(127, powers)[1] == weight.searched(127, np.array([9.0, 9.0, 1.0, 2.0]))[1]).all()
    assert weight.searched(127, powers).shape == (2,)


def test_one_scale_for_all_channels_where_channels_are_not_told_apart() -> None:
    [weight] = weights(models.classifier(), frozenset({"conv1"}), per_channel=False)
    assert weight.plain(127).shape == (1,) == weight.searched(127, np.ones(3)).shape
    assert weight.rounded(weight.plain(127), 127).shape == weight.values.shape


def test_seven_bits_where_sums_would_saturate() -> None:
    assert largest_integer(choose(models.NO_VNNI)) == 64
    assert largest_integer(choose(models.VNNI)) == 127
