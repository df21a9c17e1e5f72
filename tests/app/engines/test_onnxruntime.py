from pathlib import Path

import numpy as np
import onnx
import pytest

from app import custom_operators, engines
from app.errors import InvalidModel
from tests import graphs
from tests.custom_operators import LIBRARY

ENGINE = engines.get("onnxruntime")


@pytest.mark.parametrize(
    ("model", "name", "shape"),
    [
        (graphs.linear_classifier(features=64), "x", (3, 64)),
        (graphs.quantized_classifier(), "x", (3, 16)),
        (graphs.convolution(), "image", (2, 3, 8, 8)),
    ],
    ids=["linear", "quantized", "convolution"],
)
def test_a_saved_model_answers_as_the_model_does(
    tmp_path: Path, model: onnx.ModelProto, name: str, shape: tuple[int, ...]
) -> None:
    path = graphs.save(model, tmp_path / "upload.onnx")
    (tmp_path / "saved").mkdir()
    saved = tmp_path / "saved" / ENGINE.save(path, tmp_path / "saved")
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    plain, mapped = (
        ENGINE.load(file, intra_op_threads=1, saved=file == saved).run({name: array})[0] for file in (path, saved)
    )
    np.testing.assert_array_equal(plain, mapped)


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


def test_what_is_no_model_is_not_saved(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(InvalidModel):
        ENGINE.save(tmp_path / "bad.onnx", tmp_path)


def test_the_build_is_a_word_fit_for_a_file() -> None:
    assert ENGINE.build() == ENGINE.build()
    assert ENGINE.build().startswith("onnxruntime-")
    assert "/" not in ENGINE.build()
