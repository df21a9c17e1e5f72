"""Half-precision storage: half the bytes, FP32 arithmetic, nothing out of range."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app import engines
from app.errors import NotQuantizable
from tests.worker import models
from tests.worker.runtime import cosine, executed_operators, run
from worker import onnx_files


def _wide(weight: np.ndarray) -> onnx.ModelProto:
    return models.model(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "m")], {"x": ["n", 64]}, {"y": None}, {"w": weight}
    )


def test_it_takes_half_the_bytes_and_keeps_the_interface(tmp_path: Path) -> None:
    source = models.write(_wide(models.normal(64, 512)), tmp_path)
    made = models.make("fp16", source)
    assert made.artifact.stat().st_size < 0.51 * source.stat().st_size
    before, after = (engines.get("onnxruntime").load(path, intra_op_threads=1) for path in (source, made.artifact))
    assert (before.inputs, before.outputs) == (after.inputs, after.outputs)
    x = models.normal(3, 64)
    np.testing.assert_allclose(run(made.artifact, {"x": x})[0], run(source, {"x": x})[0], rtol=0.02, atol=0.02)


def test_the_runtime_folds_every_cast_so_that_it_computes_what_it_did(tmp_path: Path) -> None:
    source = models.write(models.classifier(), tmp_path)
    made = models.make("fp16", source)
    assert made.facts["halved_tensors"] == 2
    assert executed_operators(made.artifact) == executed_operators(source)
    assert "Cast" not in executed_operators(made.artifact)


@pytest.mark.parametrize(
    ("value", "reason"),
    [(65505.0, "beyond FP16's 65504"), (-1e30, "beyond"), (np.inf, "not finite"), (np.nan, "not finite")],
)
def test_a_tensor_that_does_not_fit_stays_in_fp32_and_is_reported(tmp_path: Path, value: float, reason: str) -> None:
    large = models.normal(64, 8)
    large[3, 3] = value
    proto = _wide(models.normal(64, 64))
    proto.graph.node.append(helper.make_node("MatMul", ["y", "large"], ["z"], "n"))
    proto.graph.initializer.append(numpy_helper.from_array(large, "large"))
    proto.graph.output[0].name = "z"
    made = models.make("fp16", models.write(proto, tmp_path))
    written = {tensor.name: tensor for tensor in onnx.load(made.artifact).graph.initializer}
    assert written["large"].data_type == TensorProto.FLOAT
    np.testing.assert_array_equal(numpy_helper.to_array(written["large"]), large)
    assert written["w_fp16"].data_type == TensorProto.FLOAT16
    assert [kept["tensor"] for kept in made.facts["kept_fp32"]] == ["large"]
    assert reason in made.notes[0]


def test_a_tensor_that_would_vanish_stays_in_fp32(tmp_path: Path) -> None:
    proto = _wide(models.normal(64, 64))
    proto.graph.node.append(helper.make_node("Mul", ["y", "tiny"], ["z"], "n"))
    proto.graph.initializer.append(numpy_helper.from_array(np.full(64, 1e-9, np.float32), "tiny"))
    proto.graph.output[0].name = "z"
    made = models.make("fp16", models.write(proto, tmp_path))
    assert [kept["tensor"] for kept in made.facts["kept_fp32"]] == ["tiny"]
    assert np.abs(run(made.artifact, {"x": models.normal(1, 64)})[0]).max() > 0


def test_the_largest_half_itself_is_stored(tmp_path: Path) -> None:
    weight = models.normal(64, 64)
    weight[0, 0] = 65504.0
    made = models.make("fp16", models.write(_wide(weight), tmp_path))
    assert made.facts["kept_fp32"] == []
    stored = numpy_helper.to_array(onnx.load(made.artifact).graph.initializer[0])
    assert stored.dtype == np.float16
    assert stored[0, 0] == 65504.0


def test_weights_in_constant_nodes_subgraphs_and_functions_are_halved_too(tmp_path: Path) -> None:
    def constant(name: str, seed: int) -> onnx.NodeProto:
        return helper.make_node(
            "Constant", [], [name], value=numpy_helper.from_array(models.normal(8, 8, seed=seed), name)
        )

    def branch(name: str, seed: int) -> onnx.GraphProto:
        return helper.make_graph(
            [
                constant(f"{name}_c", seed),
                helper.make_node("MatMul", ["x", f"{name}_c"], [f"{name}_h"]),
                helper.make_node("MatMul", [f"{name}_h", f"{name}_i"], [f"{name}_o"]),
            ],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_o", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(models.normal(8, 8, seed=seed + 1), f"{name}_i")],
        )

    nodes = [
        constant("c", 1),
        helper.make_node("MatMul", ["x", "c"], ["h"], "m"),
        helper.make_node("If", ["flag"], ["b"], "if", then_branch=branch("then", 2), else_branch=branch("other", 4)),
        helper.make_node("Add", ["h", "b"], ["s"], "a"),
        helper.make_node("Project", ["s"], ["y"], "f", domain="local"),
    ]
    proto = models.model(nodes, {"x": ["n", 8], "flag": (TensorProto.BOOL, [])}, {"y": None})
    proto.opset_import.add(domain="local", version=1)
    proto.functions.append(
        helper.make_function(
            "local",
            "Project",
            ["v"],
            ["r"],
            [constant("k", 6), helper.make_node("MatMul", ["v", "k"], ["r"])],
            [helper.make_opsetid("", 17)],
        )
    )
    source = models.write(proto, tmp_path)
    made = models.make("fp16", source)
    assert made.facts["halved_tensors"] == 6
    kinds = {tensor.data_type for tensor in onnx_files.tensors(onnx.load(made.artifact))}
    assert kinds == {TensorProto.FLOAT16}
    for flag in (True, False):
        feeds = {"x": models.normal(2, 8), "flag": np.array(flag)}
        assert cosine(run(source, feeds)[0], run(made.artifact, feeds)[0]) > 0.99999


def test_weights_beside_the_model_are_read_from_there_and_left_alone(tmp_path: Path) -> None:
    source = tmp_path / "original.onnx"
    data = onnx_files.save(_wide(models.normal(64, 512)), source, limit=0)
    assert data is not None
    before = data.read_bytes()
    made = models.make("fp16", source)
    assert made.data is None
    assert data.read_bytes() == before
    x = models.normal(2, 64)
    np.testing.assert_allclose(run(made.artifact, {"x": x})[0], run(source, {"x": x})[0], rtol=0.02, atol=0.02)


def test_a_model_of_integers_and_scalars_is_refused(tmp_path: Path) -> None:
    proto = models.model(
        [helper.make_node("Mul", ["x", "s"], ["y"], "m")], {"x": ["n"]}, {"y": ["n"]}, {"s": np.float32(2)}
    )
    with pytest.raises(NotQuantizable, match="no FP32 weight tensor"):
        models.make("fp16", models.write(proto, tmp_path))
