"""Fake quantization: the values that integers would stand for, and gradients that can be trained with."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from tests.servers import WITHOUT_TORCH
from tests.worker import models
from worker.training.grids import ActivationGrid, BiasGrid, WeightGrid

torch = pytest.importorskip("torch", reason=WITHOUT_TORCH)

from worker.training.fake_quant import QuantizedModule  # noqa: E402
from worker.training.onnx_to_torch import OnnxModule  # noqa: E402


def _product(bias: bool = False) -> onnx.ModelProto:
    nodes = [helper.make_node("Gemm", ["x", "w", *(["b"] if bias else [])], ["y"], "gemm")]
    weights = {"w": models.normal(4, 3, seed=1)} | ({"b": models.normal(3, seed=2)} if bias else {})
    return models.model(nodes, {"x": ["n", 4]}, {"y": ["n", 3]}, weights)


def _student(
    grid: ActivationGrid | None = None, weight: WeightGrid | None = None, biases: dict[str, BiasGrid] | None = None
) -> QuantizedModule:
    return QuantizedModule(
        OnnxModule(_product(bias=biases is not None)),
        {"x": grid} if grid is not None else {},
        {"w": weight} if weight is not None else {},
        biases or {},
    )


@given(
    low=st.floats(-50.0, 0.0),
    high=st.floats(0.01, 50.0),
    bits=st.integers(4, 8),
    values=st.lists(st.floats(-100.0, 100.0, width=32), min_size=1, max_size=30),
)
def test_activations_are_what_the_runtime_s_own_rounding_makes_of_them(
    low: float, high: float, bits: int, values: list[float]
) -> None:
    grid = ActivationGrid.over(low, high, 2**bits)
    student = _student(grid)
    x = np.array(values, np.float32)
    with torch.no_grad():
        got = student._rounded_activation("x", torch.from_numpy(x)).numpy()
    scale = np.float32(grid.scale)
    integers = np.clip(np.rint(x / scale) + grid.zero_point, 0, grid.levels - 1)
    wanted = (integers - grid.zero_point) * scale
    # Where a value lies between two integers, to the last bit of FP32, either is right.
    off = np.abs(got - wanted)
    assert (off <= scale * 1.001).all()
    ties = np.abs(np.abs(x / scale - np.floor(x / scale)) - 0.5) < 1e-3
    assert (off[~ties] <= 1e-5 * (1.0 + np.abs(wanted[~ties]))).all()
    assert len(np.unique(integers)) <= 2**bits


@given(low=st.floats(-50.0, 0.0), high=st.floats(0.01, 50.0), bits=st.integers(4, 8))
def test_a_grid_covers_its_range_to_half_a_step_and_holds_zero(low: float, high: float, bits: int) -> None:
    grid = ActivationGrid.over(low, high, 2**bits)
    assert 0 <= grid.zero_point < grid.levels
    bounds = grid.bounds(grid.scale)
    assert bounds == pytest.approx((low, high), abs=0.51 * grid.scale)
    assert ActivationGrid.over(*bounds, 2**bits).zero_point == grid.zero_point


def test_the_gradient_goes_straight_through_within_the_range_and_ends_beyond_it() -> None:
    student = _student(ActivationGrid.over(-1.0, 1.0, 256))
    x = torch.tensor([-3.0, -0.5, 0.2, 0.9, 4.0], requires_grad=True)
    student._rounded_activation("x", x).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


def test_the_gradient_of_a_scale_is_that_of_learned_step_sizes() -> None:
    grid = ActivationGrid.over(-1.0, 1.0, 16)
    student = _student(grid)
    values = torch.tensor([-3.0, -0.51, 0.23, 0.88, 4.0])
    student._rounded_activation("x", values).sum().backward()
    ratio = values.numpy() / grid.scale
    integers = np.rint(ratio)
    per_value = np.where(
        (integers >= -grid.zero_point) & (integers <= 15 - grid.zero_point),
        integers - ratio,
        np.clip(integers, -grid.zero_point, 15 - grid.zero_point),
    )
    # What is learned is a logarithm: its gradient is that of the scale, times the scale.
    learned = student.learned_scales()["x"]
    assert float(learned.grad) == pytest.approx(float(per_value.sum()) * grid.scale, rel=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_weights_are_rounded_channel_by_channel_and_learn_their_scales(channels: int) -> None:
    scales = np.linspace(0.02, 0.05, channels).astype(np.float32)
    student = _student(weight=WeightGrid(scales, 1, 127))
    (answer,) = student({"x": torch.eye(4)})
    weight = student.module.parameter("w").detach().numpy()
    wanted = np.clip(np.rint(weight / scales), -127, 127) * scales
    np.testing.assert_allclose(answer.detach().numpy(), wanted, atol=1e-6)
    answer.square().sum().backward()
    assert student.learned_scales()["w"].grad.shape == (channels,)
    assert student.module.parameter("w").grad is not None


def test_a_bias_is_a_multiple_of_both_scales() -> None:
    grid, weight = ActivationGrid.over(-1.0, 1.0, 256), WeightGrid(np.full(3, 0.5, np.float32), 1, 127)
    student = _student(grid, weight, {"b": BiasGrid("x", "w")})
    (answer,) = student({"x": torch.zeros(1, 4)})
    steps = answer.detach().numpy() / (grid.scale * 0.5)
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
    answer.sum().backward()
    assert student.module.parameter("b").grad.tolist() == [1.0, 1.0, 1.0]


def test_a_scale_that_is_not_to_be_learned_stays() -> None:
    student = _student(ActivationGrid.over(0.0, 1.0, 256, learned=False))
    assert student.learned_scales() == {}
    assert float(student.scale("x")[0]) == pytest.approx(1 / 255)
