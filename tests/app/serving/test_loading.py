from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnx
import pytest

from app import engines
from app.blobs import BlobStore, open_store
from app.engines.warming import zeros
from app.errors import InvalidModel
from app.serving.loading import Artifact, Loader
from app.settings import Settings
from tests import graphs
from tests.app.serving.artifacts import kept, kept_model


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return open_store(Settings(home=tmp_path))


@pytest.fixture
def loader(blobs: BlobStore, tmp_path: Path) -> Loader:
    (tmp_path / "scratch").mkdir()
    return Loader(blobs, tmp_path / "scratch", tmp_path / "mapped", intra_op_threads=1)


def test_external_data_is_found_under_its_name_and_nothing_is_left(
    loader: Loader, blobs: BlobStore, tmp_path: Path
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
    (logits,) = loader.load(wanted, ExitStack()).run({"x": np.ones((1, 256), np.float32)})
    assert logits.shape == (1, 64)
    assert list((tmp_path / "scratch").iterdir()) == []
    assert loader.file_bytes(wanted) == size


def test_a_deleted_artifact_is_an_invalid_model(loader: Loader) -> None:
    gone = Artifact("onnxruntime", "0" * 64)
    with pytest.raises(InvalidModel, match="deleted"):
        loader.load(gone, ExitStack())
    assert loader.file_bytes(gone) == 0


def test_answers_are_the_same_without_an_arena(loader: Loader, blobs: BlobStore, tmp_path: Path) -> None:
    artifact = kept_model(blobs, graphs.linear_classifier(), tmp_path)
    x = np.ones((2, 16), np.float32)
    models = [loader.load(artifact, ExitStack(), arena=arena) for arena in (True, False)]
    (with_arena,), (without,) = (model.run({"x": x}) for model in models)
    np.testing.assert_array_equal(with_arena, without)


def test_the_warm_up_input_fits_every_datatype(tmp_path: Path) -> None:
    path = graphs.save(graphs.all_datatypes(), tmp_path / "types.onnx")
    model = engines.get("onnxruntime").load(path, intra_op_threads=1)
    outputs = model.run({spec.name: zeros(spec) for spec in model.inputs})
    assert [output.shape for output in outputs] == [(1,)] * 13


LARGE = {"features": 2048, "classes": 1024}


@pytest.fixture
def large(blobs: BlobStore, tmp_path: Path) -> Artifact:
    return kept_model(blobs, graphs.linear_classifier(**LARGE), tmp_path)


def answer(loader: Loader, artifact: Artifact) -> np.ndarray:  # type: ignore[type-arg]
    (logits,) = loader.load(artifact, ExitStack()).run({"x": np.ones((1, LARGE["features"]), np.float32)})
    return logits


def mapped_files(tmp_path: Path) -> dict[str, int]:
    files = [file for file in (tmp_path / "mapped").rglob("*") if file.is_file()]
    return {str(file): file.stat().st_ino for file in files}


def test_what_is_large_is_made_ready_to_map_once(loader: Loader, large: Artifact, tmp_path: Path) -> None:
    first = answer(loader, large)
    made = mapped_files(tmp_path)
    assert made
    np.testing.assert_array_equal(answer(loader, large), first)
    assert mapped_files(tmp_path) == made
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_is_small_is_loaded_as_it_is(loader: Loader, blobs: BlobStore, tmp_path: Path) -> None:
    loader.load(kept_model(blobs, graphs.linear_classifier(), tmp_path), ExitStack())
    assert not (tmp_path / "mapped").exists()


@pytest.mark.parametrize("suffix", [".onnx", ".data"])
@pytest.mark.parametrize("size", [0, 100])
def test_what_was_cut_off_is_made_anew(loader: Loader, large: Artifact, tmp_path: Path, suffix: str, size: int) -> None:
    first = answer(loader, large)
    file = next(Path(name) for name in mapped_files(tmp_path) if name.endswith(suffix))
    file.write_bytes(file.read_bytes()[:size])
    np.testing.assert_array_equal(answer(loader, large), first)
    assert not file.exists()
    np.testing.assert_array_equal(answer(loader, large), first)
    assert file.stat().st_size > size


def test_what_cannot_be_written_is_loaded_as_it_is(
    loader: Loader, large: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "mapped").write_bytes(b"no folder")
    assert answer(loader, large).shape == (1, LARGE["classes"])
    assert "unmapped" in caplog.text
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_is_forgotten_leaves_nothing(loader: Loader, large: Artifact, tmp_path: Path) -> None:
    model = loader.load(large, ExitStack())
    loader.forget(large.digest)
    assert mapped_files(tmp_path) == {}
    assert model.run({"x": np.ones((1, LARGE["features"]), np.float32)})[0].shape == (1, LARGE["classes"])


def test_what_is_of_no_use_any_more_is_tidied_away(
    loader: Loader, blobs: BlobStore, large: Artifact, tmp_path: Path
) -> None:
    answer(loader, large)
    kept_files = mapped_files(tmp_path)
    old = tmp_path / "mapped" / large.digest / "onnxruntime-1.0-0123456789abcdef"
    old.mkdir()
    (old / "model.onnx").write_bytes(b"")
    loader.tidy()
    assert mapped_files(tmp_path) == kept_files
    blobs.delete(large.digest)
    loader.tidy()
    assert mapped_files(tmp_path) == {}
