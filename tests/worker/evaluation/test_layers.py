"""Layer by layer."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from app.contracts.figures import LayerFigures
from tests.worker import models
from tests.worker.models import ENGINE
from tests.worker.runtime import run
from worker import onnx_files
from worker.evaluation.fidelity import sqnr_db
from worker.evaluation.layers import compare_layers

_ARRAYS = {"x": models.normal(64, 3, 8, 8)}


def _layers(method: str, folder: Path) -> list[LayerFigures]:
    made = models.make(method, models.write(models.classifier(), folder), _ARRAYS, calibrate=32)
    return compare_layers(
        made.reference,
        made.artifact,
        _ARRAYS,
        np.arange(40, 56),
        engine=ENGINE,
        threads=1,
        progress=lambda share: None,
    )


@pytest.mark.parametrize(
    ("method", "names"),
    [
        ("int8", {"conv1", "conv2", "add", "gemm"}),
        ("fp16", {"conv1", "conv2", "add", "gemm"}),
        ("dynamic", {"conv1", "conv2", "add", "gemm"}),
    ],
)
def test_every_layer_is_there_under_its_own_name_worst_first(tmp_path: Path, method: str, names: set[str]) -> None:
    layers = _layers(method, tmp_path)
    assert {layer.name for layer in layers} == names
    figures = [np.inf if layer.sqnr_db is None else layer.sqnr_db for layer in layers]
    assert figures == sorted(figures)


def test_a_clipped_layer_is_compared_after_its_clip(tmp_path: Path) -> None:
    # Before it, half the values would be off by all they are: an SQNR around 0 dB.
    by_name = {layer.name: layer for layer in _layers("int8", tmp_path)}
    assert by_name["conv1"].operator == "Conv"
    assert by_name["conv1"].sqnr_db is not None
    assert by_name["conv1"].sqnr_db > 25


def test_dynamic_leaves_convolutions_as_they_are(tmp_path: Path) -> None:
    by_name = {layer.name: layer for layer in _layers("dynamic", tmp_path)}
    assert by_name["conv1"].sqnr_db is None
    assert by_name["gemm"].sqnr_db is not None


def test_a_damaged_weight_shows_at_its_layer_first(tmp_path: Path) -> None:
    source = models.write(models.classifier(), tmp_path)
    damaged = models.classifier()
    for tensor in damaged.graph.initializer:
        if tensor.name == "w2":
            values = np.array(numpy_helper.to_array(tensor))
            values[0] = 0
            tensor.CopyFrom(numpy_helper.from_array(values, "w2"))
    layers = compare_layers(
        source,
        models.write(damaged, tmp_path, "damaged.onnx"),
        _ARRAYS,
        np.arange(16),
        engine=ENGINE,
        threads=1,
        progress=lambda share: None,
    )
    assert layers[0].name == "conv2"
    assert {layer.name: layer.sqnr_db for layer in layers}["conv1"] is None


def test_the_figure_of_the_last_layer_is_that_of_the_output(tmp_path: Path) -> None:
    made = models.make("int8", models.write(models.classifier(), tmp_path), _ARRAYS, calibrate=32)
    chosen = np.arange(40, 56)
    layers = compare_layers(
        made.reference, made.artifact, _ARRAYS, chosen, engine=ENGINE, threads=1, progress=lambda share: None
    )
    feeds = {"x": _ARRAYS["x"][chosen]}
    expected = sqnr_db(run(made.reference, feeds)[0], run(made.artifact, feeds)[0])
    assert next(layer for layer in layers if layer.name == "gemm").sqnr_db == pytest.approx(expected, abs=0.5)


def test_models_with_weights_beside_them_are_compared_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_files, "INLINE_LIMIT_BYTES", 100)
    layers = _layers("int8", tmp_path)
    assert len(layers) == 4
    assert onnx.load(tmp_path / "variant.onnx", load_external_data=False).graph.output
