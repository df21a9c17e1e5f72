from pathlib import Path

import numpy as np
import onnx
import pytest

from app.blobs import LocalBlobStore
from app.engines import ENGINES
from app.errors import InvalidModel
from app.serving.loading import Artifact, Loader, zeros
from tests import graphs
from tests.app.serving.artifacts import kept, kept_model


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobStore:
    return LocalBlobStore(tmp_path / "blobs")


@pytest.fixture
def loader(blobs: LocalBlobStore, tmp_path: Path) -> Loader:
    (tmp_path / "scratch").mkdir()
    return Loader(blobs, tmp_path / "scratch", intra_op_threads=1)


def test_external_data_is_found_under_its_name_and_nothing_is_left(
    loader: Loader, blobs: LocalBlobStore, tmp_path: Path
) -> None:
    folder = tmp_path / "big"
    folder.mkdir()
    onnx.save(
        graphs.linear_classifier(features=256, classes=64),
        folder / "m.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    size = sum(path.stat().st_size for path in folder.iterdir())
    wanted = Artifact("onnxruntime", kept(blobs, folder / "m.onnx"), kept(blobs, folder / "weights.bin"), "weights.bin")
    (logits,) = loader.load(wanted).run({"x": np.ones((1, 256), np.float32)})
    assert logits.shape == (1, 64)
    assert list((tmp_path / "scratch").iterdir()) == []
    assert loader.file_bytes(wanted) == size


def test_a_deleted_artifact_is_an_invalid_model(loader: Loader) -> None:
    gone = Artifact("onnxruntime", "0" * 64)
    with pytest.raises(InvalidModel, match="deleted"):
        loader.load(gone)
    assert loader.file_bytes(gone) == 0


def test_answers_are_the_same_without_an_arena(loader: Loader, blobs: LocalBlobStore, tmp_path: Path) -> None:
    artifact = kept_model(blobs, graphs.linear_classifier(), tmp_path)
    x = np.ones((2, 16), np.float32)
    (with_arena,), (without,) = (loader.load(artifact, arena=arena).run({"x": x}) for arena in (True, False))
    np.testing.assert_array_equal(with_arena, without)


def test_the_warm_up_input_fits_every_datatype(tmp_path: Path) -> None:
    path = graphs.save(graphs.all_datatypes(), tmp_path / "types.onnx")
    model = ENGINES["onnxruntime"].load(path, intra_op_threads=1)
    outputs = model.run({spec.name: zeros(spec) for spec in model.inputs})
    assert [output.shape for output in outputs] == [(1,)] * 13
