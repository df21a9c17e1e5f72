import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from app.blobs import LocalBlobStore
from app.engines import ENGINES
from app.errors import InvalidModel
from app.serving.pool import Artifact, Pool, zeros
from tests import graphs


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobStore:
    return LocalBlobStore(tmp_path / "blobs")


@pytest.fixture
def pool(blobs: LocalBlobStore, tmp_path: Path) -> Pool:
    (tmp_path / "scratch").mkdir()
    return Pool(blobs, tmp_path / "scratch", intra_op_threads=1)


def kept(blobs: LocalBlobStore, path: Path) -> str:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    blobs.put(path, digest)
    return digest


def artifact(blobs: LocalBlobStore, tmp_path: Path) -> Artifact:
    return Artifact("onnxruntime", kept(blobs, graphs.save(graphs.linear_classifier(), tmp_path / "m.onnx")))


def test_concurrent_first_requests_load_once(
    pool: Pool, blobs: LocalBlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = artifact(blobs, tmp_path)
    loads: list[Path] = []
    engine = ENGINES["onnxruntime"]
    real = engine.load

    def counted(path: Path, **options: Any) -> Any:
        loads.append(path)
        return real(path, **options)

    monkeypatch.setattr(engine, "load", counted)
    barrier = threading.Barrier(8)

    def get(_: int) -> object:
        barrier.wait()
        return pool.get(wanted)

    with ThreadPoolExecutor(8) as threads:
        models = list(threads.map(get, range(8)))
    assert len(loads) == 1
    assert len({id(model) for model in models}) == 1
    assert pool.is_loaded(wanted)


def test_a_failed_load_is_told_to_all_and_tried_again(pool: Pool, blobs: LocalBlobStore, tmp_path: Path) -> None:
    (tmp_path / "broken").write_bytes(b"junk")
    broken = Artifact("onnxruntime", kept(blobs, tmp_path / "broken"))
    for _ in range(2):
        with pytest.raises(InvalidModel, match="failed to load"):
            pool.get(broken)
    assert not pool.is_loaded(broken)
    with pytest.raises(InvalidModel, match="deleted"):
        pool.get(Artifact("onnxruntime", "0" * 64))


def test_a_dropped_artifact_is_forgotten_but_still_runs_for_those_who_have_it(
    pool: Pool, blobs: LocalBlobStore, tmp_path: Path
) -> None:
    wanted = artifact(blobs, tmp_path)
    model = pool.get(wanted)
    pool.drop({wanted.digest})
    assert not pool.is_loaded(wanted)
    (logits,) = model.run({"x": np.zeros((1, 16), np.float32)})
    assert logits.shape == (1, 4)


def test_external_data_is_found_under_its_name_and_nothing_is_left(
    pool: Pool, blobs: LocalBlobStore, tmp_path: Path
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
    wanted = Artifact("onnxruntime", kept(blobs, folder / "m.onnx"), kept(blobs, folder / "weights.bin"), "weights.bin")
    (logits,) = pool.get(wanted).run({"x": np.ones((1, 256), np.float32)})
    assert logits.shape == (1, 64)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_the_warm_up_input_fits_every_datatype(tmp_path: Path) -> None:
    path = graphs.save(graphs.all_datatypes(), tmp_path / "types.onnx")
    model = ENGINES["onnxruntime"].load(path, intra_op_threads=1)
    outputs = model.run({spec.name: zeros(spec) for spec in model.inputs})
    assert [output.shape for output in outputs] == [(1,)] * 13
