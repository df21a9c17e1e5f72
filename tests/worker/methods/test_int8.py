"""Static INT8."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from app import engines
from app.errors import JobFailed, NotQuantizable
from tests.worker import models
from tests.worker.runtime import cosine, executed_operators, run
from worker import onnx_files


def test_conv_batch_norm_and_relu_become_one_integer_kernel(tmp_path: Path) -> None:
    source = models.write(models.classifier(), tmp_path)
    x = models.normal(64, 3, 8, 8)
    made = models.make("int8", source, {"x": x}, calibrate=64)
    operators = executed_operators(made.artifact)
    assert operators["QLinearConv"] == 2
    assert operators["QLinearAdd"] == 1
    assert operators["QGemm"] == 1
    assert not {"Conv", "FusedConv", "Relu", "BatchNormalization", "Add", "Gemm"} & operators.keys()
    expected, got = run(source, {"x": x})[0], run(made.artifact, {"x": x})[0]
    assert (expected.argmax(1) == got.argmax(1)).mean() > 0.95
    assert cosine(expected, got) > 0.998


def test_the_interface_stays_that_of_the_upload(tmp_path: Path) -> None:
    source = models.write(models.token_encoder(), tmp_path)
    made = models.make("int8", source, models.token_arrays(16))
    before, after = (engines.get("onnxruntime").load(path, intra_op_threads=1) for path in (source, made.artifact))
    assert (before.inputs, before.outputs) == (after.inputs, after.outputs)


def test_token_ids_and_several_inputs_calibrate(tmp_path: Path) -> None:
    source = models.write(models.token_encoder(), tmp_path)
    arrays = models.token_arrays(64)
    made = models.make("int8", source, {**arrays, "not_an_input": np.zeros(64)}, calibrate=64)
    operators = executed_operators(made.artifact)
    # The first product is clipped and quantized at once, the second stays FP32 at its end.
    assert operators["QLinearMatMul"] == 1
    assert operators["MatMulIntegerToFloat"] == 1
    assert cosine(run(source, arrays)[0], run(made.artifact, arrays)[0]) > 0.99


@pytest.mark.parametrize("batch", [1, 3])
def test_a_fixed_batch_calibrates_to_the_same_ranges(tmp_path: Path, batch: int) -> None:
    x = models.normal(32, 3, 8, 8)
    ranges, scales = {}, {}
    for size in ("batch", batch):
        folder = tmp_path / str(size)
        folder.mkdir()
        source = models.write(models.classifier(size), folder)
        ranges[size] = models.make("int8", source, {"x": x}, calibrate=20).ranges
        # Without repairs: weight scales that are searched for have near ties, which the last digits decide.
        plain = models.make("int8", source, {"x": x}, calibrate=20, repair=False)
        scales[size] = {
            tensor.name: onnx.numpy_helper.to_array(tensor).tolist()
            for tensor in onnx.load(plain.artifact).graph.initializer
            if tensor.name.endswith("_scale")
        }
    for found in (ranges, scales):
        assert len(found["batch"]) > 0
        assert found["batch"].keys() == found[batch].keys()
        for name, values in found["batch"].items():
            np.testing.assert_allclose(values, found[batch][name], rtol=1e-4)


def test_an_old_opset_is_quantized_after_conversion(tmp_path: Path) -> None:
    source = models.write(models.classifier(opset=11), tmp_path)
    x = models.normal(32, 3, 8, 8)
    made = models.make("int8", source, {"x": x})
    assert executed_operators(made.artifact)["QLinearConv"] == 2
    assert cosine(run(source, {"x": x})[0], run(made.artifact, {"x": x})[0]) > 0.99


def test_control_flow_stays_in_fp32_reads_what_it_read_and_is_reported(tmp_path: Path) -> None:
    def branch(name: str, operator: str) -> onnx.GraphProto:
        return helper.make_graph(
            [
                helper.make_node(operator, ["c"], [f"{name}_a"]),
                helper.make_node("MatMul", [f"{name}_a", "w"], [f"{name}_o"]),
            ],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_o", TensorProto.FLOAT, ["n", 4, 8, 8])],
        )

    branches = {"then_branch": branch("then", "Neg"), "else_branch": branch("other", "Abs")}
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], "conv", pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("If", ["flag"], ["b"], "if", **branches),
        helper.make_node("MatMul", ["r", "w"], ["p"], "product"),
        helper.make_node("Sub", ["b", "p"], ["y"], "sub"),
    ]
    weights = {"k": models.normal(4, 3, 3, 3, scale=0.3), "w": models.normal(8, 8, scale=0.3)}
    inputs = {"x": ["n", 3, 8, 8], "flag": (TensorProto.BOOL, [1])}
    source = models.write(models.model(nodes, inputs, {"y": ["n", 4, 8, 8]}, weights), tmp_path)
    arrays = {"x": models.normal(32, 3, 8, 8), "flag": np.ones((32,), np.bool_)}
    made = models.make("int8", source, arrays, calibrate=1)
    assert any("2 node(s) stay in FP32: it is inside control flow" in note for note in made.notes)
    onnx.checker.check_model(onnx.load(made.artifact))
    for flag in (True, False):
        feeds = {"x": arrays["x"][:1], "flag": np.array([flag])}
        assert cosine(run(source, feeds)[0], run(made.artifact, feeds)[0]) > 0.999


def test_large_models_are_read_from_beside_and_written_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "original.onnx"
    onnx_files.save(models.token_encoder(), source, limit=0)
    arrays = models.token_arrays(32)
    monkeypatch.setattr(onnx_files, "INLINE_LIMIT_BYTES", 100)
    made = models.make("int8", source, arrays)
    assert made.data is not None
    assert onnx_files.load(made.reference, weights=False).graph.initializer[0].external_data
    assert cosine(run(source, arrays)[0], run(made.artifact, arrays)[0]) > 0.99


def test_without_samples_it_fails_and_says_what_it_takes(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="at least 2"):
        models.make("int8", models.write(models.classifier(), tmp_path), {"x": models.normal(1, 3, 8, 8)}, calibrate=0)


def test_a_model_without_a_node_to_quantize_is_refused_and_says_why(tmp_path: Path) -> None:
    proto = models.model(
        [helper.make_node("ConvTranspose", ["x", "w"], ["y"], "up")],
        {"x": ["n", 3, 4, 4]},
        {"y": None},
        {"w": models.normal(3, 2, 2, 2)},
    )
    with pytest.raises(NotQuantizable, match="ConvTranspose has no integer kernel"):
        models.make("int8", models.write(proto, tmp_path), {"x": models.normal(4, 3, 4, 4)}, calibrate=4)
