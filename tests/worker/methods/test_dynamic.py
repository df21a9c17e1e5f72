"""Dynamic INT8."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from app.errors import NotQuantizable
from tests.worker import models
from tests.worker.runtime import cosine, executed_operators, run
from worker import onnx_files


def test_an_encoder_of_token_ids_becomes_integer_and_a_quarter_of_the_size(tmp_path: Path) -> None:
    source = models.write(models.token_encoder(), tmp_path)
    arrays = models.token_arrays(16)
    made = models.make("dynamic", source)
    assert cosine(run(source, arrays)[0], run(made.artifact, arrays)[0]) > 0.999
    operators = executed_operators(made.artifact)
    assert operators["MatMul"] == 0
    assert operators["DynamicQuantizeMatMul"] == 2
    stored = {TensorProto.INT8: 0, TensorProto.UINT8: 0, TensorProto.FLOAT: 0}
    for tensor in onnx.load(made.artifact).graph.initializer:
        if tensor.data_type in stored:
            stored[tensor.data_type] += onnx_files.stored_bytes(tensor)
    # The table's rows are short here: 16 bytes, and 4 of their scale.
    assert stored[TensorProto.INT8] + stored[TensorProto.UINT8] > 4 * stored[TensorProto.FLOAT]


def test_a_transposed_scaled_gemm_keeps_its_answer(tmp_path: Path) -> None:
    node = helper.make_node("Gemm", ["x", "b", "c"], ["y"], "gemm", transB=1, alpha=0.25, beta=3.0)
    weights = {"b": models.normal(16, 32), "c": models.normal(16, seed=1)}
    source = models.write(models.model([node], {"x": ["n", 32]}, {"y": ["n", 16]}, weights), tmp_path)
    x = models.normal(8, 32, seed=2)
    made = models.make("dynamic", source)
    assert executed_operators(made.artifact)["Gemm"] == 0
    np.testing.assert_allclose(run(made.artifact, {"x": x})[0], run(source, {"x": x})[0], atol=0.1)


def test_only_the_gathers_of_large_tables_become_integer(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["few", "ids"], ["a"], "small"),
        helper.make_node("Gather", ["x", "ids"], ["b"], "of_input"),
        helper.make_node("Add", ["a", "b"], ["s"], "add"),
        helper.make_node("MatMul", ["s", "w"], ["y"], "product"),
    ]
    weights = {"few": models.normal(4, 16), "w": models.normal(16, 16)}
    inputs = {"x": [4, 16], "ids": (TensorProto.INT64, ["n"])}
    source = models.write(models.model(nodes, inputs, {"y": None}, weights), tmp_path)
    made = models.make("dynamic", source)
    kept = {tensor.name for tensor in onnx.load(made.artifact).graph.initializer}
    assert "few" in kept
    assert made.facts["integer_nodes"] == 1


def test_a_model_without_constant_products_is_refused_and_says_why(tmp_path: Path) -> None:
    proto = models.model(
        [helper.make_node("MatMul", ["x", "z"], ["y"], "m")], {"x": [4, 4], "z": [4, 4]}, {"y": [4, 4]}
    )
    with pytest.raises(NotQuantizable, match="weight is not constant"):
        models.make("dynamic", models.write(proto, tmp_path))


def test_weights_over_the_limit_of_one_file_go_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = models.write(models.token_encoder(), tmp_path)
    arrays = models.token_arrays(8)
    inline = run(models.make("dynamic", source).artifact, arrays)[0]
    monkeypatch.setattr(onnx_files, "INLINE_LIMIT_BYTES", 100)
    made = models.make("dynamic", source)
    assert made.data == tmp_path / "variant.onnx.data"
    np.testing.assert_allclose(run(made.artifact, arrays)[0], inline, atol=1e-6)
