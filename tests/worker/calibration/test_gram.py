"""XᵀX of what a tensor takes."""

from pathlib import Path

import numpy as np
from onnx import helper

from tests.worker import models
from tests.worker.models import ENGINE
from worker.calibration.gram import gram_matrices


def test_all_rows_of_all_batches_are_in_it(tmp_path: Path) -> None:
    model = models.model(
        [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("MatMul", ["r", "w"], ["y"])],
        {"x": ["n", 3, 4]},
        {"y": None},
        {"w": models.normal(4, 2)},
    )
    x = models.normal(70, 3, 4, seed=1)
    shares: list[float] = []
    found = gram_matrices(
        models.write(model, tmp_path),
        ["r"],
        {"x": x},
        np.arange(5, 70),
        engine=ENGINE,
        threads=1,
        progress=shares.append,
    )
    rows = np.maximum(x[5:], 0).reshape(-1, 4)
    np.testing.assert_allclose(found["r"], rows.T @ rows, rtol=1e-5)
    assert shares[-1] == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["original.onnx"]
