"""Weights in blocks of a few bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from onnxruntime.capi._pybind_state import quantize_matmul_4bits, quantize_matmul_8bits

from tests.worker import models
from worker.graph.blockwise import gptq, half_quadratic, round_to_nearest
from worker.graph.nbits import packed

_BITS = pytest.mark.parametrize("bits", [4, 8])


@_BITS
@pytest.mark.parametrize(("inputs", "block_size"), [(64, 32), (128, 128), (96, 16)])
def test_rounding_to_nearest_is_what_onnxruntime_stores(inputs: int, block_size: int, bits: int) -> None:
    weight = models.normal(inputs, 6)
    count = inputs // block_size
    stored = np.zeros((6, count, block_size * bits // 8), np.uint8)
    scales, zero_points = np.zeros(6 * count, np.float32), np.zeros(6 * -(-count * bits // 8), np.uint8)
    quantize = quantize_matmul_4bits if bits == 4 else quantize_matmul_8bits
    quantize(stored, weight, scales, zero_points, block_size, 6, inputs, False)

    found = round_to_nearest(weight, block_size, bits)

    np.testing.assert_allclose(found.scales.reshape(-1), scales, rtol=1e-6)
    # The half byte that is left over holds nothing.
    used = 0x0F if count * bits == 4 else 0xFF
    np.testing.assert_array_equal(packed(found.zero_points, bits).reshape(-1) & used, zero_points & used)
    ours = packed(found.integers, bits)
    # A tie may go either way.
    assert (ours != stored).mean() < 0.02


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 70), st.integers(1, 4)),
        elements=st.floats(-100, 100, width=32, allow_subnormal=False),
    ),
    st.sampled_from((16, 32)),
    st.sampled_from((4, 8)),
)
def test_no_weight_is_further_off_than_a_step(weight: NDArray[np.float32], block_size: int, bits: int) -> None:
    found = round_to_nearest(weight, block_size, bits)
    steps = np.repeat(found.scales, block_size, axis=1)[:, : len(weight)].T
    assert found.restored().shape == weight.shape
    assert (np.abs(found.restored() - weight) <= 1.001 * steps + 1e-6).all()


@_BITS
@pytest.mark.parametrize("seed", range(3))
def test_half_quadratic_never_errs_more_than_rounding(bits: int, seed: int) -> None:
    weight = models.normal(70, 16, seed=seed) ** 3
    plain, better = (
        np.square(find(weight, 32, bits).restored() - weight).sum() for find in (round_to_nearest, half_quadratic)
    )
    assert better < plain


@_BITS
@pytest.mark.parametrize(("inputs", "block_size"), [(64, 32), (70, 32), (300, 256)])
def test_gptq_errs_less_on_the_inputs_that_calibration_saw(inputs: int, block_size: int, bits: int) -> None:
    # Inputs that go together: what one weight loses another can make up for.
    x = models.normal(400, 12, seed=1) @ models.normal(12, inputs, seed=2) + 0.1 * models.normal(400, inputs, seed=3)
    weight = models.normal(inputs, 24, seed=4)
    gram = (x.T @ x).astype(np.float64)
    errors = [
        np.square(x @ found.restored() - x @ weight).sum()
        for found in (round_to_nearest(weight, block_size, bits), gptq(weight, gram, block_size, bits))
    ]
    assert errors[1] < 0.6 * errors[0]


def test_gptq_bears_inputs_that_never_speak_and_too_few_samples() -> None:
    x = models.normal(3, 64, seed=1)
    x[:, 5] = 0.0
    found = gptq(models.normal(64, 8), (x.T @ x).astype(np.float64), 32, 4)
    assert np.isfinite(found.restored()).all()
    assert np.isfinite(gptq(models.normal(64, 8), np.zeros((64, 64)), 32, 4).restored()).all()


def test_a_block_of_zeros_stays_zeros() -> None:
    for find in (round_to_nearest, half_quadratic):
        assert not find(np.zeros((40, 3), np.float32), 32, 4).restored().any()


def test_two_integers_share_a_byte_the_first_in_its_lower_half() -> None:
    assert packed(np.array([[1, 2, 3]], np.uint8), 4).tolist() == [[0x21, 0x03]]
    assert packed(np.array([[1, 2, 3]], np.uint8), 8).tolist() == [[1, 2, 3]]
