"""Models with weights in the file and beside it."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.errors import JobFailed
from tests.worker import models
from tests.worker.runtime import run
from worker import onnx_files


def test_a_model_over_the_limit_keeps_its_weights_beside_it_and_comes_back_whole(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    whole = models.classifier()
    data = onnx_files.save(models.classifier(), path, limit=100)
    assert data == tmp_path / "large.onnx.data"
    assert any(onnx_files.is_external(tensor) for tensor in onnx_files.load(path, weights=False).graph.initializer)
    x = models.normal(2, 3, 8, 8)
    np.testing.assert_array_equal(run(path, {"x": x})[0], run(models.write(whole, tmp_path), {"x": x})[0])
    loaded = {t.name: numpy_helper.to_array(t) for t in onnx_files.load(path).graph.initializer}
    for tensor in whole.graph.initializer:
        np.testing.assert_array_equal(loaded[tensor.name], numpy_helper.to_array(tensor))


def test_a_model_under_the_limit_is_one_file(tmp_path: Path) -> None:
    assert onnx_files.save(models.classifier(), tmp_path / "small.onnx") is None
    assert [file.name for file in tmp_path.iterdir()] == ["small.onnx"]


def test_size_counts_the_files_beside_a_model(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    data = onnx_files.save(models.classifier(), path, limit=100)
    assert data is not None
    assert onnx_files.size_bytes(path) == path.stat().st_size + data.stat().st_size


def test_weights_that_are_hard_links_load(tmp_path: Path) -> None:
    onnx_files.save(models.classifier(), tmp_path / "m.onnx", limit=100)
    (tmp_path / "other").mkdir()
    for name in ("m.onnx", "m.onnx.data"):
        (tmp_path / "other" / name).hardlink_to(tmp_path / name)
    assert onnx_files.load(tmp_path / "other" / "m.onnx").graph.initializer[0].raw_data


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "sub/file", "", "missing"])
def test_external_data_is_only_read_beside_the_model(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret").write_bytes(bytes(400))
    folder = tmp_path / "job"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "file").write_bytes(bytes(400))
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[10], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    with pytest.raises(JobFailed, match="not in a file beside the model"):
        onnx_files.external_array(tensor, folder)


def test_external_data_that_ends_early_is_told(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(bytes(36))
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[10], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w")
    with pytest.raises(JobFailed, match="ends before the tensor"):
        onnx_files.external_array(tensor, tmp_path)


def test_every_tensor_is_found_wherever_it_is() -> None:
    def constant(name: str) -> onnx.NodeProto:
        return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.zeros(1), name))

    body = helper.make_graph(
        [constant("in_branch")], "b", [], [], [numpy_helper.from_array(np.zeros(1), "branch_weight")]
    )
    outer = helper.make_graph([helper.make_node("If", ["c"], [], then_branch=body, else_branch=body)], "o", [], [])
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.ones(1, np.float32), "values"), numpy_helper.from_array(np.zeros(1, np.int64)), [4]
    )
    nodes = [
        constant("in_graph"),
        helper.make_node("If", ["c"], [], then_branch=outer, else_branch=body),
        helper.make_node("Constant", [], ["s"], sparse_value=sparse),
    ]
    proto = models.model(nodes, {}, {}, {"weight": np.zeros(1)})
    proto.functions.append(helper.make_function("d", "F", [], ["in_function"], [constant("in_function")], []))
    names = {tensor.name for tensor in onnx_files.tensors(proto)}
    assert names >= {"weight", "in_graph", "in_branch", "branch_weight", "values", "in_function"}
