"""A pool and queues whose models live in processes of their own."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from app.blobs import BlobStore, open_store
from app.errors import Crashed, Quarantined
from app.isolation.engine import IsolatedEngine, Limits, RunnerModel
from app.serving.batch_queue import Target
from app.serving.batcher import Batcher
from app.serving.batches import Work
from app.serving.pool import Artifact, Pool
from app.serving.statistics import Statistics
from app.settings import Settings
from tests import graphs
from tests.app.serving.artifacts import kept_model

pytestmark = pytest.mark.e2e

MIB = 1024**2
SOON_S = 30


@pytest.fixture(scope="module")
def engine() -> Iterator[IsolatedEngine]:
    made = IsolatedEngine("onnxruntime", Limits(512 * MIB, run_seconds=60))
    yield made
    made.close()


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return open_store(Settings(home=tmp_path))


@pytest.fixture
def pool(engine: IsolatedEngine, blobs: BlobStore, tmp_path: Path) -> Iterator[Pool]:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "mapped").mkdir()
    made = Pool(blobs, tmp_path / "scratch", tmp_path / "mapped", intra_op_threads=1, engine=lambda name: engine)
    yield made
    for artifact in made.loaded_bytes():
        made.unload(artifact)
    made.close()


@pytest.fixture
def small(blobs: BlobStore, tmp_path: Path) -> Artifact:
    return kept_model(blobs, graphs.linear_classifier(), tmp_path)


@pytest.fixture
def batcher(pool: Pool) -> Iterator[Batcher]:
    made = Batcher(pool, Statistics(), threads=2)
    yield made
    made.close()


def process_of(pool: Pool, artifact: Artifact) -> int:
    with pool.lease(artifact) as model:
        assert isinstance(model, RunnerModel)
        return model.process


def kill(pool: Pool, artifact: Artifact) -> None:
    process = psutil.Process(process_of(pool, artifact))
    process.send_signal(signal.SIGSEGV)
    # Its first thread is gone before the others are, which keep the sockets open for a moment.
    while process.is_running() and (process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1):
        pass


def feeds(pool: Pool, artifact: Artifact) -> dict[str, Any]:
    with pool.lease(artifact) as model:
        (spec,) = model.inputs
        return {spec.name: np.ones((1, *spec.shape[1:]), np.float32)}


def test_a_large_model_is_mapped_by_its_process(pool: Pool, blobs: BlobStore, tmp_path: Path) -> None:
    large = kept_model(blobs, graphs.linear_classifier(features=2048, classes=1024), tmp_path)
    process = process_of(pool, large)
    assert (tmp_path / "mapped" / large.digest) in set((tmp_path / "mapped").iterdir())
    assert str(tmp_path / "mapped") in Path(f"/proc/{process}/maps").read_text()
    assert pool.loaded_bytes()[large] >= 8 * MIB
    assert pool.resident_bytes() >= 8 * MIB


def test_unloading_ends_the_process_and_evicting_too(pool: Pool, small: Artifact) -> None:
    process = process_of(pool, small)
    assert pool.unload(small)
    assert not psutil.pid_exists(process)
    assert process_of(pool, small) != process


def test_a_request_that_finds_the_process_dead_has_it_started_anew(
    pool: Pool, batcher: Batcher, small: Artifact
) -> None:
    target, work = Target("m", 1, small, joins=True), Work(feeds(pool, small))
    before = batcher.submit(target, work).result(SOON_S)
    kill(pool, small)
    after = batcher.submit(target, work).result(SOON_S)
    assert after.arrays[0].tobytes() == before.arrays[0].tobytes()
    assert pool.crashes() == {small: 1}


def test_one_that_crashes_again_and_again_is_left_alone_and_others_are_not(
    pool: Pool, batcher: Batcher, small: Artifact, blobs: BlobStore, tmp_path: Path
) -> None:
    other = kept_model(blobs, graphs.linear_classifier(seed=5), tmp_path)
    target, work = Target("bad", 1, small, joins=True), Work(feeds(pool, small))
    for _ in range(3):
        kill(pool, small)
        with pool.lease(small) as model, pytest.raises(Crashed):
            model.run(work.feeds)
        if pool.quarantined(small):
            break
    with pytest.raises(Quarantined, match="'bad' has crashed 3 times") as refused:
        batcher.submit(target, work).result(SOON_S)
    assert refused.value.retry_after_s <= 10
    assert pool.quarantined(small) == refused.value.detail.replace("model 'bad'", "the model")
    assert batcher.submit(Target("good", 1, other, joins=True), Work(feeds(pool, other))).result(SOON_S)
    assert pool.quarantined(other) is None


def test_a_model_whose_load_crashes_is_counted_too(
    pool: Pool, small: Artifact, engine: IsolatedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawn = engine._nursery.spawn

    def doomed(request: dict[str, Any], control: Any) -> int:
        process = spawn(request, control)
        os.kill(process, signal.SIGSEGV)
        return process

    monkeypatch.setattr(engine._nursery, "spawn", doomed)
    for _ in range(3):
        with pytest.raises(Crashed, match="SIGSEGV"):
            pool.load(small)
    with pytest.raises(Quarantined):
        pool.load(small)
