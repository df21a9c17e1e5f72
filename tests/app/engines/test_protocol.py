"""What every engine does, as `app.engines.engine` has it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from app import engines
from app.engines import Engine, LoadedModel, TensorSpec
from app.engines.engine import NUMPY_TYPES
from app.errors import Invalid, InvalidModel
from tests import graphs
from tests.engine_package.octet_reference import ReferenceEngine


@pytest.fixture(params=["onnxruntime", "reference"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return engines.get("onnxruntime") if request.param == "onnxruntime" else ReferenceEngine()


def _load(engine: Engine, model: onnx.ModelProto, folder: Path, **options: Any) -> LoadedModel:
    return engine.load(graphs.save(model, folder / "m.onnx"), **{"intra_op_threads": 1} | options)


def _identity(datatype: str, shape: tuple[int | str, ...] = ("n", 2)) -> onnx.ModelProto:
    element = TensorProto.STRING if datatype == "BYTES" else helper.np_dtype_to_tensor_dtype(NUMPY_TYPES[datatype])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "identity",
        [helper.make_tensor_value_info("x", element, shape)],
        [helper.make_tensor_value_info("y", element, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _values(datatype: str) -> NDArray[Any]:
    if datatype == "BYTES":
        return np.array([["", "a"], ["ä", "水"]], dtype=np.str_).astype(np.object_)
    return np.array([[0, 1], [1, 3]]).astype(NUMPY_TYPES[datatype])


@pytest.mark.parametrize("datatype", NUMPY_TYPES)
def test_each_datatype_comes_back_as_it_was(engine: Engine, tmp_path: Path, datatype: str) -> None:
    model = _load(engine, _identity(datatype), tmp_path)
    assert model.inputs == (TensorSpec("x", datatype, (-1, 2)),)
    assert model.outputs == (TensorSpec("y", datatype, (-1, 2)),)
    x = _values(datatype)
    if datatype == "BYTES":
        x = np.array([item.encode() for item in x.ravel()], dtype=np.object_).reshape(x.shape)
    (y,) = model.run({"x": x})
    assert y.dtype == NUMPY_TYPES[datatype]
    np.testing.assert_array_equal(x, y)


def test_strings_are_utf8(engine: Engine, tmp_path: Path) -> None:
    model = _load(engine, _identity("BYTES", (1,)), tmp_path)
    with pytest.raises(Invalid, match="UTF-8"):
        model.run({"x": np.array([b"\xff"], dtype=np.object_)})


def test_a_dynamic_axis_takes_any_extent(engine: Engine, tmp_path: Path) -> None:
    model = _load(engine, graphs.linear_classifier(), tmp_path)
    rows = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)
    together = model.run({"x": rows})[0]
    assert together.shape == (5, 4)
    for number in range(5):
        np.testing.assert_allclose(model.run({"x": rows[number : number + 1]})[0][0], together[number], rtol=1e-5)


@pytest.mark.parametrize(
    "feeds",
    [
        {"x": np.zeros((1, 16), np.float32), "z": np.zeros(1, np.float32)},
        {"x": np.zeros((1, 16), np.float64)},
        {"x": np.zeros((1, 15), np.float32)},
        {"x": np.zeros((1, 1, 16), np.float32)},
    ],
    ids=["one too many", "type", "extent", "rank"],
)
def test_inputs_that_do_not_fit_are_refused(engine: Engine, tmp_path: Path, feeds: dict[str, NDArray[Any]]) -> None:
    model = _load(engine, graphs.linear_classifier(), tmp_path)
    with pytest.raises(Invalid):
        model.run(feeds)


def test_inputs_that_break_a_node_are_refused(engine: Engine, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        "pairs",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])],
        [numpy_helper.from_array(np.array([-1, 2], np.int64), "shape")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = _load(engine, proto, tmp_path)
    assert model.run({"x": np.zeros(4, np.float32)})[0].shape == (2, 2)
    with pytest.raises(Invalid, match="refused these inputs"):
        model.run({"x": np.zeros(3, np.float32)})


def test_outputs_come_in_the_order_that_is_asked_for(engine: Engine, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["less"]), helper.make_node("Abs", ["x"], ["size"])],
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("less", "size")],
    )
    model = _load(engine, helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path)
    x = np.array([-1.0, 2.0], np.float32)
    assert [spec.name for spec in model.outputs] == ["less", "size"]
    np.testing.assert_array_equal(model.run({"x": x}), [[1.0, -2.0], [1.0, 2.0]])
    np.testing.assert_array_equal(model.run({"x": x}, ["size", "less"]), [[1.0, 2.0], [1.0, -2.0]])
    np.testing.assert_array_equal(model.run({"x": x}, ["size"]), [[1.0, 2.0]])


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x08"], ids=["empty", "text", "without a graph"])
def test_what_is_no_model_is_refused(engine: Engine, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(InvalidModel):
        engine.load(tmp_path / "bad.onnx", intra_op_threads=1)
    with pytest.raises(InvalidModel):
        engine.save(tmp_path / "bad.onnx", tmp_path)


def test_an_operator_that_nobody_knows_is_refused(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(InvalidModel):
        _load(engine, graphs.custom_operator(), tmp_path)


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
    engine: Engine, tmp_path: Path, model: onnx.ModelProto, name: str, shape: tuple[int, ...]
) -> None:
    path = graphs.save(model, tmp_path / "upload.onnx")
    (tmp_path / "saved").mkdir()
    saved = tmp_path / "saved" / engine.save(path, tmp_path / "saved")
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    plain, mapped = (
        engine.load(file, intra_op_threads=1, saved=file == saved).run({name: array})[0] for file in (path, saved)
    )
    np.testing.assert_array_equal(plain, mapped)


def test_external_data_lies_beside_the_model(engine: Engine, tmp_path: Path) -> None:
    proto = graphs.linear_classifier()
    x = np.random.default_rng(0).normal(size=(2, 16)).astype(np.float32)
    expected = _load(engine, proto, tmp_path).run({"x": x})[0]
    (tmp_path / "apart").mkdir()
    onnx.save(proto, tmp_path / "apart" / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    model = engine.load(tmp_path / "apart" / "m.onnx", intra_op_threads=1)
    np.testing.assert_array_equal(model.run({"x": x})[0], expected)


def test_the_build_begins_with_the_name_and_is_fit_for_a_folder(engine: Engine) -> None:
    assert engine.build() == engine.build()
    assert engine.build().startswith(f"{engine.name}-")
    assert "/" not in engine.build()
    assert engine.name.isalnum()


@pytest.mark.parametrize("options", [{"intra_op_threads": 2}, {"arena": False}], ids=str)
def test_several_threads_run_one_model_at_once(engine: Engine, tmp_path: Path, options: dict[str, Any]) -> None:
    model = _load(engine, graphs.linear_classifier(), tmp_path, **options)
    inputs = np.random.default_rng(0).normal(size=(40, 3, 16)).astype(np.float32)
    alone = [model.run({"x": x})[0] for x in inputs]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda x: model.run({"x": x})[0], inputs))
    np.testing.assert_array_equal(alone, together)
