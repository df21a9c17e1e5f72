"""Hard-swish in integers."""

from pathlib import Path

import onnx
import pytest
from onnx import helper

from tests.worker import models
from tests.worker.runtime import cosine, executed_operators, run


def _hard_swish(alpha: float, beta: float) -> onnx.ModelProto:
    """x (n, 4, 8, 8) → Conv → x·HardSigmoid(x) → Conv → y."""
    return models.model(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], "first", pads=[1] * 4),
            helper.make_node("HardSigmoid", ["c"], ["h"], "gate", alpha=alpha, beta=beta),
            helper.make_node("Mul", ["c", "h"], ["s"], "product"),
            helper.make_node("Conv", ["s", "v"], ["y"], "second", pads=[1] * 4),
        ],
        {"x": ["n", 4, 8, 8]},
        {"y": None},
        {"w": models.normal(8, 4, 3, 3, scale=0.6), "v": models.normal(4, 8, 3, 3, seed=1, scale=0.3)},
    )


@pytest.mark.parametrize("activation_type", ["uint8", "int8"])
@pytest.mark.parametrize(("alpha", "beta"), [(1 / 6, 0.5), (0.2, 0.5), (0.4, 0.3)])
def test_it_stays_in_integers_and_close(tmp_path: Path, alpha: float, beta: float, activation_type: str) -> None:
    source = models.write(_hard_swish(alpha, beta), tmp_path)
    x = models.normal(32, 4, 8, 8, seed=2)
    made = models.make("int8", source, {"x": x}, calibrate=32, activation_type=activation_type)
    executed = executed_operators(made.artifact)
    assert executed["HardSigmoid"] == 0
    if activation_type == "uint8":
        assert executed["QLinearAdd"] == 1
        assert executed["QLinearMul"] == 1
    assert cosine(run(source, {"x": x})[0], run(made.artifact, {"x": x})[0]) > 0.999


def test_one_that_integers_cannot_do_stays(tmp_path: Path) -> None:
    source = models.write(_hard_swish(0.2, 0.0), tmp_path)
    x = models.normal(32, 4, 8, 8, seed=2)
    made = models.make("int8", source, {"x": x}, calibrate=32)
    assert executed_operators(made.artifact)["HardSigmoid"] == 1
    assert cosine(run(source, {"x": x})[0], run(made.artifact, {"x": x})[0]) > 0.99
