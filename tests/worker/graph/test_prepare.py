"""The FP32 graph that is quantized: computes what the upload does, folded, and typed throughout."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from app import engines
from app.errors import JobFailed, NotQuantizable
from tests.worker import models
from tests.worker.runtime import run
from worker import onnx_files
from worker.graph.prepare import prepare, read_interface


def _operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx_files.load(path, weights=False).graph.node)


def test_batch_norms_are_folded_and_answers_stay(tmp_path: Path) -> None:
    source = models.write(models.classifier(), tmp_path)
    prepared = prepare(source, tmp_path)
    assert "BatchNormalization" not in _operators(prepared)
    x = models.normal(4, 3, 8, 8)
    np.testing.assert_allclose(run(prepared, {"x": x})[0], run(source, {"x": x})[0], rtol=1e-4, atol=1e-5)


def test_the_interface_stays_to_the_letter(tmp_path: Path) -> None:
    proto = models.token_encoder()
    proto.metadata_props.add(key="author", value="someone")
    source = models.write(proto, tmp_path)
    prepared = onnx_files.load(prepare(source, tmp_path))
    assert list(prepared.graph.input) == list(proto.graph.input)
    assert list(prepared.graph.output) == list(proto.graph.output)
    assert [(entry.key, entry.value) for entry in prepared.metadata_props] == [("author", "someone")]


def test_only_operator_sets_in_use_are_imported(tmp_path: Path) -> None:
    prepared = onnx_files.load(prepare(models.write(models.classifier(), tmp_path), tmp_path))
    assert [entry.domain for entry in prepared.opset_import] == [""]


def test_every_tensor_has_a_type_even_behind_a_foreign_operator_and_dynamic_shapes(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gelu", ["x"], ["g"], "gelu", domain="com.microsoft"),
        helper.make_node("MatMul", ["g", "w"], ["y"], "product"),
        helper.make_node("Shape", ["y"], ["s"], "shape"),
        helper.make_node("Cast", ["s"], ["sf"], "cast", to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["sf"], ["total"], "total", keepdims=0),
        helper.make_node("Add", ["y", "total"], ["z"], "add"),
    ]
    proto = models.model(nodes, {"x": ["a", "b", 8]}, {"z": None}, {"w": models.normal(8, 4)})
    proto.opset_import.add(domain="com.microsoft", version=1)
    prepared = onnx_files.load(prepare(models.write(proto, tmp_path), tmp_path))
    types = {value.name: value.type.tensor_type.elem_type for value in prepared.graph.value_info}
    produced = {name for node in prepared.graph.node for name in node.output} - {"z"}
    assert produced == types.keys()
    assert types["g"] == types["y"] == TensorProto.FLOAT
    assert types["s"] == TensorProto.INT64


@pytest.mark.parametrize(("opset", "ir_version"), [(12, 7), (11, 6), (9, 3)])
def test_an_old_opset_is_converted_and_answers_stay(tmp_path: Path, opset: int, ir_version: int) -> None:
    proto = models.classifier(opset=opset)
    proto.ir_version = ir_version
    # As exporters of that time did: every initializer is an input too.
    for tensor in proto.graph.initializer:
        proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    source = models.write(proto, tmp_path)
    prepared = prepare(source, tmp_path)
    assert onnx_files.load(prepared).opset_import[0].version >= 13
    assert "BatchNormalization" not in _operators(prepared)
    engine = engines.get("onnxruntime")
    assert [spec.name for spec in engine.load(prepared, intra_op_threads=1).inputs] == ["x"]
    x = models.normal(2, 3, 8, 8)
    np.testing.assert_allclose(run(prepared, {"x": x})[0], run(source, {"x": x})[0], rtol=1e-4, atol=1e-5)


def test_an_opset_that_cannot_be_converted_is_refused_with_the_reason(tmp_path: Path) -> None:
    proto = models.model(
        [helper.make_node("Scan", ["x"], ["y"], "scan", num_scan_inputs=1, body=_doubling())],
        {"x": [4, 3]},
        {"y": [4, 3]},
        opset=8,
        ir_version=4,
    )
    with pytest.raises(JobFailed, match=r"opset 8.*13 or newer.*failed.*export it with opset 17"):
        prepare(models.write(proto, tmp_path), tmp_path)


def _doubling() -> onnx.GraphProto:
    return helper.make_graph(
        [helper.make_node("Add", ["a", "a"], ["b"])],
        "body",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, [3])],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, [3])],
    )


def test_weights_in_constant_nodes_become_initializers(tmp_path: Path) -> None:
    weight = onnx.numpy_helper.from_array(models.normal(8, 4), "w")
    nodes = [
        helper.make_node("Constant", [], ["w"], "constant", value=weight),
        helper.make_node("MatMul", ["x", "w"], ["y"], "product"),
    ]
    prepared = onnx_files.load(
        prepare(models.write(models.model(nodes, {"x": ["n", 8]}, {"y": ["n", 4]}), tmp_path), tmp_path)
    )
    assert [node.op_type for node in prepared.graph.node] == ["MatMul"]
    assert prepared.graph.node[0].input[1] in {tensor.name for tensor in prepared.graph.initializer}


def test_nodes_without_a_name_get_one_that_no_other_has(tmp_path: Path) -> None:
    proto = models.classifier()
    for node in proto.graph.node:
        node.name = ""
    # What the second node, a Relu, would be called.
    proto.graph.node[0].name = "Relu_1"
    prepared = onnx_files.load(prepare(models.write(proto, tmp_path), tmp_path))
    names = [node.name for node in prepared.graph.node]
    assert all(names)
    assert len(set(names)) == len(names)


def test_the_upload_and_its_external_data_are_not_touched(tmp_path: Path) -> None:
    source = tmp_path / "original.onnx"
    data = onnx_files.save(models.classifier(opset=11), source, limit=0)
    assert data is not None
    linked = tmp_path / "job"
    linked.mkdir()
    for file in (source, data):
        (linked / file.name).hardlink_to(file)
    before = source.read_bytes(), data.read_bytes()
    prepared = prepare(linked / source.name, linked, external_above=0)
    assert (source.read_bytes(), data.read_bytes()) == before
    x = models.normal(2, 3, 8, 8)
    np.testing.assert_allclose(run(prepared, {"x": x})[0], run(source, {"x": x})[0], rtol=1e-4, atol=1e-5)
    assert {file.name for file in linked.iterdir()} == {source.name, data.name, prepared.name, "prepared.weights"}


def test_an_upload_that_is_quantized_already_is_refused(tmp_path: Path) -> None:
    made = models.make("int8", models.write(models.classifier(), tmp_path), {"x": models.normal(32, 3, 8, 8)})
    with pytest.raises(NotQuantizable, match="quantized already"):
        read_interface(made.artifact)
