"""Held-out samples that calibration did not foresee are seen."""

from pathlib import Path

import numpy as np
from onnx import helper

from tests.worker import models
from tests.worker.models import ENGINE
from worker.evaluation.coverage import measure_coverage


def _model(folder: Path) -> Path:
    node = helper.make_node("Relu", ["x"], ["y"])
    return models.write(models.model([node], {"x": ["n", 50]}, {"y": ["n", 50]}), folder)


def test_samples_like_those_that_calibrated_are_covered(tmp_path: Path) -> None:
    x = models.normal(40, 50)
    bounds = (float(x.min()), float(x.max()))
    found = measure_coverage(
        _model(tmp_path), {"x": bounds, "y": (0.0, bounds[1])}, {"x": x}, np.arange(20), engine=ENGINE, threads=1
    )
    assert found is not None
    assert (found.tensors, found.mean, found.note) == (2, 1.0, None)


def test_samples_of_another_kind_are_warned_about(tmp_path: Path) -> None:
    found = measure_coverage(
        _model(tmp_path),
        {"x": (-1.0, 1.0), "y": (0.0, 9.0)},
        {"x": models.normal(40, 50)},
        np.arange(40),
        engine=ENGINE,
        threads=1,
    )
    assert found is not None
    assert found.worst[0].tensor == "x"
    assert 0.6 < found.worst[0].covered < 0.75
    assert found.note is not None
    assert "'x'" in found.note
    assert [path.name for path in tmp_path.iterdir()] == ["original.onnx"]


def test_a_range_that_cuts_off_a_little_is_no_cause_for_alarm(tmp_path: Path) -> None:
    found = measure_coverage(
        _model(tmp_path),
        {"x": (-3.2, 3.2)},
        {"x": models.normal(40, 50)},
        np.arange(40),
        engine=ENGINE,
        threads=1,
    )
    assert found is not None
    assert found.mean < 1.0
    assert found.note is None


def test_without_ranges_there_is_nothing_to_cover(tmp_path: Path) -> None:
    assert (
        measure_coverage(_model(tmp_path), {}, {"x": models.normal(4, 50)}, np.arange(4), engine=ENGINE, threads=1)
        is None
    )
