"""Ranges of activations, found by batched runs."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from app.errors import DatasetMismatch, JobFailed
from tests.worker import models
from tests.worker.models import ENGINE
from tests.worker.runtime import run
from worker.calibration.collect import collect
from worker.calibration.ranges import ActivationRange, as_onnxruntime

_RUN = {"channels": {}, "engine": ENGINE, "threads": 1, "progress": lambda share: None}


def _two_inputs(opset: int = 17) -> list[object]:
    return [
        helper.make_node("Cast", ["ids"], ["f"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Add", ["f", "x"], ["s"], "add"),
        helper.make_node("Mul", ["s", "s"], ["y"], "mul"),
    ]


@pytest.mark.parametrize("opset", [13, 17, 18, 21])
@pytest.mark.parametrize("samples", [1, 31, 70])
def test_ranges_are_the_extremes_over_all_samples_and_inputs(tmp_path: Path, opset: int, samples: int) -> None:
    proto = models.model(
        _two_inputs(),  # type: ignore[arg-type]
        {"ids": (TensorProto.INT64, ["n", 4]), "x": ["n", 4]},
        {"y": ["n", 4]},
        opset=opset,
        ir_version=10,
    )
    path = models.write(proto, tmp_path)
    arrays = {"ids": np.arange(400).reshape(100, 4) % 37 - 20, "x": models.normal(100, 4)}
    chosen = np.random.default_rng(samples).permutation(100)[:samples]
    found = collect(path, ["x", "s", "y"], arrays, chosen, **_RUN)  # type: ignore[arg-type]
    exact = arrays["x"][chosen], (arrays["ids"] + arrays["x"])[chosen], ((arrays["ids"] + arrays["x"]) ** 2)[chosen]
    for name, values in zip(("x", "s", "y"), exact, strict=True):
        assert found.tensors[name].minimum == pytest.approx(values.min(), rel=1e-6)
        assert found.tensors[name].maximum == pytest.approx(values.max(), rel=1e-6)


def test_progress_is_told_after_each_batch_and_ends_at_one(tmp_path: Path) -> None:
    path = models.write(models.classifier(4), tmp_path)
    told: list[float] = []
    collect(
        path,
        ["scores"],
        {"x": models.normal(10, 3, 8, 8)},
        np.arange(10),
        channels={},
        engine=ENGINE,
        threads=1,
        progress=told.append,
    )
    assert told == [pytest.approx(1 / 3), pytest.approx(2 / 3), 1.0]


def test_values_that_are_not_finite_are_an_error_that_names_the_tensor(tmp_path: Path) -> None:
    nodes = [helper.make_node("Log", ["x"], ["logarithm"], "log"), helper.make_node("Exp", ["logarithm"], ["y"], "exp")]
    path = models.write(models.model(nodes, {"x": ["n", 4]}, {"y": ["n", 4]}), tmp_path)
    x = np.ones((8, 4), np.float32)
    for bad in (0.0, -1.0):
        x[5, 2] = bad
        with pytest.raises(JobFailed, match=r"'logarithm'.*not finite"):
            collect(path, ["x", "logarithm"], {"x": x}, np.arange(8), **_RUN)  # type: ignore[arg-type]


def test_a_dataset_that_lacks_an_input_or_has_another_type_is_refused(tmp_path: Path) -> None:
    path = models.write(models.classifier(), tmp_path)
    for arrays, reason in (
        ({"image": models.normal(4, 3, 8, 8)}, "no array of that name"),
        ({"x": models.normal(4, 3, 8, 8).astype(np.float64)}, "float64"),
        ({"x": models.normal(4, 3, 8)}, "rank 3"),
    ):
        with pytest.raises(DatasetMismatch, match=reason):
            collect(path, ["scores"], arrays, np.arange(4), **_RUN)  # type: ignore[arg-type]


def test_only_the_upload_remains_in_the_folder(tmp_path: Path) -> None:
    path = models.write(models.classifier(), tmp_path)
    before = run(path, {"x": models.normal(1, 3, 8, 8)})
    collect(path, ["scores"], {"x": models.normal(4, 3, 8, 8)}, np.arange(4), **_RUN)  # type: ignore[arg-type]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    np.testing.assert_array_equal(run(path, {"x": models.normal(1, 3, 8, 8)})[0], before[0])


@pytest.mark.parametrize(("low", "high"), [(1.0, 0.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_what_is_no_range_cannot_be_made(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="not a range"):
        ActivationRange(low, high)


def test_the_writer_gets_the_ranges_as_they_are() -> None:
    given_ranges = as_onnxruntime({"a": ActivationRange(-1.5, 2.5)})
    assert given_ranges["a"].range_value == (np.float32(-1.5), np.float32(2.5))
