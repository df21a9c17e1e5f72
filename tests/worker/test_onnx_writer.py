"""Files written tensor by tensor are the bytes that protobuf writes."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.worker import models
from worker import onnx_files


def with_every_field() -> onnx.ModelProto:
    """A model whose messages have fields on both sides of those that weights lie in, and values of other kinds."""
    model = models.classifier()
    graph = model.graph
    graph.doc_string, model.doc_string, model.producer_name = "a graph", "a model", "tests"
    model.metadata_props.add(key="task", value="none")
    graph.value_info.append(helper.make_tensor_value_info("r1", TensorProto.FLOAT, None))
    graph.initializer[0].doc_string = "a weight"
    graph.initializer.append(helper.make_tensor("listed", TensorProto.FLOAT, [300], np.arange(300.0).tolist()))
    graph.initializer.append(helper.make_tensor("texts", TensorProto.STRING, [2], [b"one", b"two"]))
    graph.initializer.append(numpy_helper.from_array(np.zeros((0, 4), np.float32), "empty"))
    graph.initializer.append(numpy_helper.from_array(np.arange(2000, dtype=np.int64), "integers"))
    return model


@pytest.mark.parametrize("limit", [None, 100], ids=["weights in the file", "weights beside it"])
def test_a_file_written_by_tensor_is_what_protobuf_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    source, expected = tmp_path / "m.onnx", with_every_field()
    onnx_files.save(with_every_field(), source, limit=limit)
    if limit is not None:
        # What came from a file beside the model is raw, as protobuf has it too once it is read.
        expected = onnx_files.load(source)
    monkeypatch.setattr(onnx_files, "MAPPED_ABOVE_BYTES", 0)
    assert onnx_files.save(onnx_files.load(source, weights=False), tmp_path / "whole.onnx") is None
    assert (tmp_path / "whole.onnx").read_bytes() == expected.SerializeToString()


def test_references_stay_where_a_model_is_written_beside_them(tmp_path: Path) -> None:
    onnx_files.save(with_every_field(), tmp_path / "m.onnx", limit=100)
    model = onnx_files.load(tmp_path / "m.onnx", weights=False)
    model.graph.initializer.append(numpy_helper.from_array(models.normal(64, 64), "new"))
    data = onnx_files.save_beside(model, tmp_path / "edited.onnx", limit=100)
    assert data == tmp_path / "edited.onnx.data"
    assert data.stat().st_size == 64 * 64 * 4
    assert str(tmp_path).encode() not in (tmp_path / "edited.onnx").read_bytes()
    for found in (model, onnx_files.load(tmp_path / "edited.onnx", weights=False)):
        values = {tensor.name: onnx_files.array(tensor) for tensor in found.graph.initializer}
        np.testing.assert_array_equal(values["new"], models.normal(64, 64))
        np.testing.assert_array_equal(values["w1"], numpy_helper.to_array(with_every_field().graph.initializer[0]))


def test_a_model_whose_weights_moved_out_is_written_again_without_losing_them(tmp_path: Path) -> None:
    model = with_every_field()
    first = onnx_files.save_beside(model, tmp_path / "m.onnx", limit=100)
    assert first is not None
    before = first.read_bytes()
    assert onnx_files.save_beside(model, tmp_path / "m.onnx", limit=100) is None
    assert first.read_bytes() == before


def test_copies_of_a_mapped_model_are_whole(tmp_path: Path) -> None:
    onnx_files.save(with_every_field(), tmp_path / "m.onnx", limit=100)
    (tmp_path / "other").mkdir()
    model = onnx_files.load(tmp_path / "m.onnx", weights=False)
    assert onnx_files.save(model, tmp_path / "other" / "copy.onnx") is None
    assert onnx_files.load(tmp_path / "other" / "copy.onnx") == onnx_files.load(tmp_path / "m.onnx")
