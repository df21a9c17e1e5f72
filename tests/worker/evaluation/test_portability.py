"""What 16-bit sums would do, against a model that computes them one by one."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from tests.worker import models
from tests.worker.models import ENGINE
from tests.worker.runtime import run
from worker.evaluation.portability import predict_saturation
from worker.graph.integer_types import choose

_SAMPLES = 12


def _loud(*shape: int) -> NDArray[np.float32]:
    """Weights that are nearly all as large as the largest, so that pairs of them saturate."""
    return np.sign(models.normal(*shape, seed=7)) * (0.9 + 0.1 * np.abs(np.tanh(models.normal(*shape, seed=8))))


def _made(folder: Path, method: str = "int8", *, operator: str = "MatMul", **options: object) -> tuple[Path, NDArray]:
    if operator == "Conv":
        x = np.abs(models.normal(_SAMPLES, 4, 6, 6, seed=1))
        node = helper.make_node("Conv", ["x", "w"], ["y"], "op", pads=[1, 0, 1, 0], strides=[2, 1])
        source = models.model([node], {"x": ["n", 4, 6, 6]}, {"y": None}, {"w": _loud(6, 4, 3, 3)})
    else:
        x = np.abs(models.normal(_SAMPLES, 33, seed=1))
        node = helper.make_node("MatMul", ["x", "w"], ["y"], "op")
        source = models.model([node], {"x": ["n", 33]}, {"y": ["n", 6]}, {"w": _loud(33, 6)})
    x = x.astype(np.float32)
    cpu = options.pop("cpu", models.VNNI)
    arrays = {"x": x} if method == "int8" else None
    made = models.make(method, models.write(source, folder), arrays, calibrate=_SAMPLES, cpu=cpu, **options)  # type: ignore[arg-type]
    return made.artifact, x


def _values(artifact: Path, name: str) -> NDArray[np.generic]:
    model = onnx.load(artifact)
    return next(numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name == name)


def _matmul(artifact: Path, x: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The artifact's answers, and what is added to them if its sums are taken pair by pair in 16 bits."""
    scale, zero_point = _values(artifact, "x_scale"), int(_values(artifact, "x_zero_point"))
    quantized = np.clip(np.rint(x / scale) + zero_point, 0, 255).astype(np.int64)
    weight = _values(artifact, "w_quantized").astype(np.int64)
    products = quantized[:, :, None] * weight
    products = np.concatenate([products, np.zeros((len(x), 1, weight.shape[1]), np.int64)], axis=1)
    pairs = products.reshape(len(x), -1, 2, weight.shape[1]).sum(axis=2)
    exact = pairs.sum(axis=1) - zero_point * weight.sum(axis=0)
    errors = (np.clip(pairs, -(2**15), 2**15 - 1) - pairs).sum(axis=1)
    unit = float(scale) * _values(artifact, "w_scale").astype(np.float64)
    return exact * unit, errors * unit


def test_sums_of_this_cpu_are_exact_or_err_as_those_of_a_cpu_without_vnni_are_said_to(tmp_path: Path) -> None:
    artifact, x = _made(tmp_path, repair=False)
    exact, errors = _matmul(artifact, x)
    expected = exact + errors if choose(models.HERE).reduce_range else exact
    assert np.abs(errors).max() > 1
    np.testing.assert_allclose(run(artifact, {"x": x})[0], expected, atol=1e-5)


def test_the_prediction_is_that_of_sums_taken_one_by_one(tmp_path: Path) -> None:
    # Repairs are chosen by what this CPU answers: what they come to is not the same on all.
    artifact, x = _made(tmp_path, repair=False)
    here, (_, errors) = run(artifact, {"x": x})[0], _matmul(artifact, x)
    found = predict_saturation(artifact, {"x": x}, np.arange(_SAMPLES), engine=ENGINE, threads=1)
    assert found is not None
    expected = 10 * np.log10(np.square(here).sum() / np.square(errors).sum())
    assert found.sqnr_db == pytest.approx(expected, abs=0.1)
    assert found.agreement == (here.argmax(axis=1) == (here + errors).argmax(axis=1)).mean()
    assert (found.nodes, found.worst, found.samples) == (1, "op", _SAMPLES)
    assert found.share == pytest.approx((np.abs(errors) > 1e-3).mean())


@pytest.mark.parametrize("activation_type", ["uint8", "int8"])
def test_convolutions_are_looked_at_window_by_window(tmp_path: Path, activation_type: str) -> None:
    artifact, x = _made(tmp_path, operator="Conv", activation_type=activation_type)
    found = predict_saturation(artifact, {"x": x}, np.arange(_SAMPLES), engine=ENGINE, threads=1)
    assert found is not None
    assert found.worst == "op"
    assert found.share > 0.05
    assert found.note is not None
    assert "VNNI" in found.note


def test_seven_bit_weights_saturate_nowhere(tmp_path: Path) -> None:
    artifact, x = _made(tmp_path, cpu=models.NO_VNNI)
    found = predict_saturation(artifact, {"x": x}, np.arange(_SAMPLES), engine=ENGINE, threads=1)
    assert found is not None
    assert (found.nodes, found.worst, found.share, found.note) == (0, None, 0.0, None)


def test_dynamic_sums_are_looked_at_too(tmp_path: Path) -> None:
    artifact, x = _made(tmp_path, "dynamic")
    found = predict_saturation(artifact, {"x": x}, np.arange(_SAMPLES), engine=ENGINE, threads=1)
    assert found is not None
    assert found.share > 0.2


def test_without_integer_sums_there_is_nothing_to_predict(tmp_path: Path) -> None:
    source = models.write(models.classifier(), tmp_path)
    assert predict_saturation(source, {"x": models.normal(4, 3, 8, 8)}, np.arange(4), engine=ENGINE, threads=1) is None


def test_no_file_is_left(tmp_path: Path) -> None:
    artifact, x = _made(tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    predict_saturation(artifact, {"x": x}, np.arange(_SAMPLES), engine=ENGINE, threads=1)
    assert {path.name for path in tmp_path.iterdir()} == before
