from pathlib import Path

import numpy as np
import pytest

from app import custom_operators, engines
from app.errors import InvalidModel
from tests import graphs
from tests.custom_operators import LIBRARY

ENGINE = engines.get("onnxruntime")


def test_large_weights_lie_beside_the_saved_graph(tmp_path: Path) -> None:
    path = graphs.save(graphs.linear_classifier(features=1024, classes=64), tmp_path / "upload.onnx")
    (tmp_path / "saved").mkdir()
    saved = tmp_path / "saved" / ENGINE.save(path, tmp_path / "saved")
    (weights,) = (file for file in saved.parent.iterdir() if file != saved)
    assert weights.stat().st_size >= 1024 * 64 * 4 > saved.stat().st_size


def test_custom_operators_run_where_they_are_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = graphs.save(graphs.custom_operator(), tmp_path / "upload.onnx")
    with pytest.raises(InvalidModel, match="NegPos"):
        ENGINE.load(path, intra_op_threads=1)
    # Of two domains, one library.
    monkeypatch.setattr(custom_operators, "_libraries", dict.fromkeys(["ai.onnx.contrib", "com.example"], LIBRARY))
    (tmp_path / "saved").mkdir()
    saved = tmp_path / "saved" / ENGINE.save(path, tmp_path / "saved")
    x = np.random.default_rng(0).normal(size=(2, 64)).astype(np.float32)
    plain, mapped = (
        ENGINE.load(file, intra_op_threads=1, saved=file == saved).run({"x": x})[0] for file in (path, saved)
    )
    np.testing.assert_array_equal(plain, mapped)
