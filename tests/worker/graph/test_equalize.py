"""Equalization: the same function, with channels of like reach."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from tests.worker import models
from tests.worker.runtime import run
from worker.graph.equalize import chains, equalize

_BETWEEN = {
    "nothing": [],
    "Relu": [helper.make_node("Relu", ["c"], ["a"], "clip")],
    "Clip": [helper.make_node("Clip", ["c", "zero", "six"], ["a"], "clip")],
}
_ALL = frozenset({"first", "second"})


def _chain(between: str, *, group: int = 1, first_bias: bool = True) -> onnx.ModelProto:
    """x (n, 3, 6, 6) → Conv to 8 channels of very different reach → `between` → Conv → y."""
    reach = np.geomspace(0.02, 2.0, 8).astype(np.float32)
    weights = {
        "w": models.normal(8, 3, 3, 3, scale=0.3) * reach.reshape(8, 1, 1, 1),
        "v": models.normal(8, 8 // group, 3, 3, seed=1, scale=0.3),
        "zero": np.float32(0),
        "six": np.float32(6),
    }
    if first_bias:
        weights["b"] = models.normal(8, seed=2, scale=0.1) * reach
    source = "c" if between == "nothing" else "a"
    return models.model(
        [
            helper.make_node("Conv", ["x", "w", "b"] if first_bias else ["x", "w"], ["c"], "first"),
            *_BETWEEN[between],
            helper.make_node("Conv", [source, "v"], ["y"], "second", group=group),
        ],
        {"x": ["n", 3, 6, 6]},
        {"y": None},
        weights,
    )


def _largest(model: onnx.ModelProto, tensor: str, folder: Path, x: NDArray[np.float32]) -> NDArray[np.float64]:
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.append(onnx.ValueInfoProto(name=tensor))
    values = run(models.write(shown, folder, "shown.onnx"), {"x": x})[-1]
    return np.abs(values).max(axis=(0, 2, 3)).astype(np.float64)


@pytest.mark.parametrize("between", _BETWEEN)
@pytest.mark.parametrize("group", [1, 2, 8])
def test_what_is_computed_stays_and_the_channels_come_closer(tmp_path: Path, between: str, group: int) -> None:
    x = models.normal(16, 3, 6, 6, seed=3)
    model = _chain(between, group=group)
    [chain] = chains(model, _ALL)
    before = _largest(model, chain.tensor, tmp_path, x)
    expected = run(models.write(model, tmp_path), {"x": x})[0]

    changed = equalize(model, [chain], {chain.tensor: before})

    after = _largest(model, chain.tensor, tmp_path, x)
    assert list(changed) == [chain.tensor]
    assert run(models.write(model, tmp_path), {"x": x})[0] == pytest.approx(expected, abs=1e-4)
    assert after == pytest.approx(before * changed[chain.tensor], rel=1e-4)
    assert after.max() / after.min() < 0.9 * before.max() / before.min()


def test_a_depthwise_reader_lets_all_channels_reach_equally_far(tmp_path: Path) -> None:
    x = models.normal(16, 3, 6, 6, seed=3)
    model = _chain("Relu", group=8)
    [chain] = chains(model, _ALL)
    equalize(model, [chain], {"a": _largest(model, "a", tmp_path, x)})
    after = _largest(model, "a", tmp_path, x)
    assert after[3:] == pytest.approx(after.max(), rel=1e-3)


def test_a_bound_is_kept_for_what_calibration_saw(tmp_path: Path) -> None:
    x = models.normal(16, 3, 6, 6, seed=3) * 8
    model = _chain("Clip", group=8)
    [chain] = chains(model, _ALL)
    assert chain.ceiling == 6.0
    expected = run(models.write(model, tmp_path), {"x": x})[0]
    equalize(model, [chain], {"a": _largest(model, "a", tmp_path, x)})
    assert run(models.write(model, tmp_path), {"x": x})[0] == pytest.approx(expected, abs=1e-4)


def test_a_silent_channel_is_left_alone_and_a_quiet_one_not_blown_up() -> None:
    model = _chain("Relu", group=8)
    [chain] = chains(model, _ALL)
    largest = np.array([0.0, 1e-9, *[1.0] * 5, 2.0])
    factors = equalize(model, [chain], {"a": largest})["a"]
    assert factors == pytest.approx([1, 16, 2, 2, 2, 2, 2, 1])
    assert np.isfinite(onnx.numpy_helper.to_array(model.graph.initializer[1])).all()


def test_a_tensor_that_others_read_is_no_chain() -> None:
    model = _chain("Relu")
    model.graph.output.append(onnx.ValueInfoProto(name="a"))
    assert chains(model, _ALL) == []


def test_a_weight_that_two_nodes_share_is_no_chain() -> None:
    model = _chain("Relu", first_bias=False)
    model.graph.node.append(helper.make_node("Identity", ["v"], ["z"], "other"))
    assert chains(model, _ALL) == []


def test_a_clip_that_does_not_begin_at_zero_is_no_chain() -> None:
    model = _chain("Clip")
    next(tensor for tensor in model.graph.initializer if tensor.name == "zero").CopyFrom(
        onnx.numpy_helper.from_array(np.float32(-1), "zero")
    )
    assert chains(model, _ALL) == []


def test_only_nodes_that_become_integer_are_equalized() -> None:
    assert chains(_chain("Relu"), frozenset({"first"})) == []
