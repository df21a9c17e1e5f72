"""Inner tensors as outputs, of models with weights in the file and beside it."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from app import engines
from tests.worker import models
from worker import inner_tensors, onnx_files

ENGINE = engines.get("onnxruntime")


def two_layers(weight: np.ndarray) -> onnx.ModelProto:
    """y = relu(x·w), the product declared as `h` with a shape that no sample has."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])],
        "two layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", len(weight)])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", weight.shape[1]])],
        [onnx.numpy_helper.from_array(weight, "w")],
        value_info=[helper.make_tensor_value_info("h", TensorProto.FLOAT, ["batch", weight.shape[1]])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("limit", [None, 100], ids=["weights in the file", "weights beside it"])
def test_inner_tensors_come_in_the_order_asked_for_and_leave_no_file(tmp_path: Path, limit: int | None) -> None:
    weight, x = models.normal(8, 64), models.normal(3, 8)
    onnx_files.save(two_layers(weight), tmp_path / "m.onnx", limit=limit)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    loaded = inner_tensors.load_exposed(tmp_path / "m.onnx", ["y", "h"], engine=ENGINE, threads=1)
    y, h = loaded.run({"x": x})
    np.testing.assert_allclose(h, x @ weight, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(y, np.maximum(h, 0))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_an_edited_model_over_the_limit_loads_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_files, "INLINE_LIMIT_BYTES", 100)
    weight, x = models.normal(8, 64), models.normal(3, 8)
    loaded = inner_tensors.load_edited(two_layers(weight), tmp_path, engine=ENGINE, threads=1)
    np.testing.assert_allclose(loaded.run({"x": x})[0], np.maximum(x @ weight, 0), rtol=1e-5, atol=1e-5)
    assert list(tmp_path.iterdir()) == []


def test_an_edited_model_keeps_its_references_and_moves_new_weights_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight, x = models.normal(8, 64), models.normal(3, 8)
    onnx_files.save(two_layers(weight), tmp_path / "m.onnx", limit=100)
    model = onnx_files.load(tmp_path / "m.onnx", weights=False)
    model.graph.initializer.append(onnx.numpy_helper.from_array(models.normal(64, 16), "v"))
    model.graph.node.append(helper.make_node("MatMul", ["y", "v"], ["z"]))
    inner_tensors.expose(model.graph, ["z"])
    monkeypatch.setattr(onnx_files, "INLINE_LIMIT_BYTES", 100)
    before = sorted(file.name for file in tmp_path.iterdir())
    loaded = inner_tensors.load_edited(model, tmp_path, engine=ENGINE, threads=1)
    expected = np.maximum(x @ weight, 0) @ models.normal(64, 16)
    np.testing.assert_allclose(loaded.run({"x": x})[0], expected, rtol=1e-4, atol=1e-4)
    assert sorted(file.name for file in tmp_path.iterdir()) == before


def test_exposed_tensors_have_the_types_that_are_declared() -> None:
    model = two_layers(models.normal(8, 64))
    inner_tensors.expose(model.graph, ["h", "unknown"])
    kinds = [(output.name, output.type.tensor_type.elem_type) for output in model.graph.output]
    assert kinds == [("h", TensorProto.FLOAT), ("unknown", TensorProto.UNDEFINED)]
    assert not model.graph.output[0].type.tensor_type.HasField("shape")
