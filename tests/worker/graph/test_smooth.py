"""SmoothQuant: the same function, with outliers where weights bear them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.worker import models
from tests.worker.runtime import run
from worker.graph.smooth import divisors, groups, smooth

_CHANNELS = 16


def _block(*, residual: bool) -> onnx.ModelProto:
    """x (n, 16) → LayerNormalization → two MatMuls, summed; with `residual` the norm is added to the sum as well."""
    gamma = np.ones(_CHANNELS, np.float32)
    gamma[3] = 40.0
    nodes = [
        helper.make_node("LayerNormalization", ["x", "gamma", "beta"], ["normed"], "norm"),
        helper.make_node("MatMul", ["normed", "w"], ["p"], "left"),
        helper.make_node("MatMul", ["normed", "v"], ["q"], "right"),
        helper.make_node("Add", ["p", "q"], ["s"], "sum"),
        helper.make_node("Add", ["s", "normed" if residual else "one"], ["y"], "residual"),
    ]
    return models.model(
        nodes,
        {"x": ["n", _CHANNELS]},
        {"y": ["n", _CHANNELS]},
        {
            "gamma": gamma,
            "beta": models.normal(_CHANNELS, scale=0.1),
            "w": models.normal(_CHANNELS, _CHANNELS, seed=1),
            "v": models.normal(_CHANNELS, _CHANNELS, seed=2),
            "one": np.ones(_CHANNELS, np.float32),
        },
    )


_PRODUCTS = frozenset({"left", "right"})
_LARGEST = {"normed": np.where(np.arange(_CHANNELS) == 3, 120.0, 3.0)}


@pytest.mark.parametrize("residual", [False, True])
def test_what_is_computed_stays(tmp_path: Path, residual: bool) -> None:
    x = models.normal(32, _CHANNELS, seed=3)
    model = _block(residual=residual)
    expected = run(models.write(model, tmp_path), {"x": x})[0]
    changed = smooth(model, groups(model, _PRODUCTS), _LARGEST, {"normed": 0.5})
    assert run(models.write(model, tmp_path), {"x": x})[0] == pytest.approx(expected, abs=1e-4)
    assert changed == ({"normed_smoothed": "normed"} if residual else {"normed": "normed"})


def test_the_division_costs_nothing_where_a_norm_can_take_it() -> None:
    model = _block(residual=False)
    [group] = groups(model, _PRODUCTS)
    assert group.norm is not None
    nodes = len(model.graph.node)
    smooth(model, [group], _LARGEST, {"normed": 0.5})
    assert len(model.graph.node) == nodes


def test_the_outlier_shrinks_against_the_rest(tmp_path: Path) -> None:
    x = models.normal(64, _CHANNELS, seed=3)
    model = _block(residual=True)
    smooth(model, groups(model, _PRODUCTS), _LARGEST, {"normed": 0.8})
    model.graph.output.append(onnx.ValueInfoProto(name="normed_smoothed"))
    reach = np.abs(run(models.write(model, tmp_path), {"x": x})[-1]).max(axis=0)
    assert reach[3] / np.median(reach) < 4.0


def test_inputs_without_an_alpha_stay() -> None:
    model = _block(residual=True)
    before = model.SerializeToString()
    assert smooth(model, groups(model, _PRODUCTS), _LARGEST, {}) == {}
    assert model.SerializeToString() == before


def test_a_shared_weight_is_not_rescaled() -> None:
    model = _block(residual=True)
    model.graph.node.append(helper.make_node("Identity", ["v"], ["z"], "other"))
    [group] = groups(model, _PRODUCTS)
    assert [node.name for node in group.products] == ["left"]
    assert group.norm is None


def test_silent_channels_are_divided_by_one() -> None:
    found = divisors(np.array([0.0, 2.0, 8.0]), np.array([1.0, 0.0, 1.0], np.float32), 0.5)
    assert found[:2] == pytest.approx([1.0, 1.0])
