import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app import engines
from app.blobs import BlobStore, open_store
from app.errors import InvalidModel
from app.serving.loading import Loader
from app.serving.memory import give_back_freed, resident_bytes
from app.serving.pool import Artifact, Pool
from app.settings import Settings
from tests import graphs
from tests.app.serving.artifacts import kept, kept_model

pytestmark = pytest.mark.e2e

MIB = 1024**2
SOON_S = 30


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return open_store(Settings(home=tmp_path))


@pytest.fixture
def pools(blobs: BlobStore, tmp_path: Path) -> Iterator[Any]:
    (tmp_path / "scratch").mkdir()
    made: list[Pool] = []

    def make(memory_bytes: int | None = None) -> Pool:
        folders = (tmp_path / "scratch", tmp_path / "mapped")
        made.append(Pool(blobs, *folders, intra_op_threads=1, memory_bytes=memory_bytes))
        return made[-1]

    yield make
    for pool in made:
        pool.close()


@pytest.fixture
def pool(pools: Any) -> Pool:
    made: Pool = pools()
    return made


@pytest.fixture
def small(blobs: BlobStore, tmp_path: Path) -> Artifact:
    return kept_model(blobs, graphs.linear_classifier(), tmp_path)


@pytest.fixture
def large(blobs: BlobStore, tmp_path: Path) -> list[Artifact]:
    """Four models of 8 MiB each. What a process does at its first load is done before, so as not to be measured."""
    Loader(blobs, tmp_path, tmp_path / "mapped", intra_op_threads=1).load(
        kept_model(blobs, graphs.linear_classifier(features=2048, classes=1024, seed=9), tmp_path), ExitStack()
    )
    return [
        kept_model(blobs, graphs.linear_classifier(features=2048, classes=1024, seed=seed), tmp_path)
        for seed in range(4)
    ]


def test_concurrent_first_requests_load_once(pool: Pool, small: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[Path] = []
    engine = engines.get("onnxruntime")
    real = engine.load

    def counted(path: Path, **options: Any) -> Any:
        loads.append(path)
        return real(path, **options)

    monkeypatch.setattr(engine, "load", counted)
    barrier = threading.Barrier(8)

    def run(_: int) -> int:
        barrier.wait()
        with pool.lease(small) as model:
            return id(model)

    with ThreadPoolExecutor(8) as threads:
        models = list(threads.map(run, range(8)))
    assert len(loads) == 1
    assert len(set(models)) == 1
    assert pool.is_loaded(small)


def test_a_failed_load_is_told_to_all_and_tried_again(pool: Pool, blobs: BlobStore, tmp_path: Path) -> None:
    path = tmp_path / "broken"
    path.write_bytes(b"junk")
    broken = Artifact("onnxruntime", kept(blobs, path))
    for _ in range(2):
        futures = [pool.acquire(broken) for _ in range(3)]
        for future in futures:
            with pytest.raises(InvalidModel, match="failed to load"):
                future.result(SOON_S)
    assert not pool.is_loaded(broken)
    with pytest.raises(InvalidModel, match="deleted"):
        pool.load(Artifact("onnxruntime", "0" * 64))


def test_a_load_holds_up_no_requests_of_other_models(
    pool: Pool, small: Artifact, large: list[Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.load(small)
    begun, go_on = threading.Event(), threading.Event()
    engine = engines.get("onnxruntime")
    real = engine.load

    def slow(path: Path, **options: Any) -> Any:
        begun.set()
        assert go_on.wait(SOON_S)
        return real(path, **options)

    monkeypatch.setattr(engine, "load", slow)
    loading = pool.acquire(large[0])
    assert begun.wait(SOON_S)
    with pool.lease(small) as model:
        assert model.run({"x": np.zeros((1, 16), np.float32)})[0].shape == (1, 4)
    assert pool.acquire_loaded(large[0]) is None
    assert not loading.done()
    go_on.set()
    loading.result(SOON_S).release()


def test_a_dropped_artifact_is_forgotten_but_those_who_run_it_end(pool: Pool, small: Artifact) -> None:
    with pool.lease(small) as model:
        pool.drop({small.digest})
        assert not pool.is_loaded(small)
        (logits,) = model.run({"x": np.zeros((1, 16), np.float32)})
    assert logits.shape == (1, 4)


def test_one_that_is_dropped_while_it_loads_still_answers_those_who_asked(pool: Pool, small: Artifact) -> None:
    future = pool.acquire(small)
    pool.drop({small.digest})
    lease = future.result(SOON_S)
    assert lease.model.run({"x": np.zeros((1, 16), np.float32)})[0].shape == (1, 4)
    lease.release()
    assert not pool.is_loaded(small)


def test_unloading_waits_for_a_running_request(pool: Pool, small: Artifact) -> None:
    lease = pool.acquire(small).result(SOON_S)
    assert not pool.unload(small, timeout_s=0.01)
    lease.release()
    pool.load(small)
    lease = pool.acquire(small).result(SOON_S)
    unloaded: list[bool] = []
    thread = threading.Thread(target=lambda: unloaded.append(pool.unload(small, timeout_s=SOON_S)))
    thread.start()
    while pool.is_loaded(small):
        pass
    assert unloaded == []
    lease.release()
    thread.join(SOON_S)
    assert unloaded == [True]


def test_what_a_model_takes_is_measured(pool: Pool, large: list[Artifact]) -> None:
    pool.load(large[0])
    # The weights once, and some slack for what else the process does for the first time; never all copies of a load.
    assert 8 * MIB <= pool.loaded_bytes()[large[0]] < 20 * MIB


def test_the_least_recently_used_is_evicted(pools: Any, large: list[Artifact], monkeypatch: pytest.MonkeyPatch) -> None:
    # What else the process takes or gives back meanwhile would be measured too, and another one evicted.
    measured = itertools.count(0, 8 * MIB)
    monkeypatch.setattr("app.serving.pool.resident_bytes", lambda: next(measured))
    first, second, third, _ = large
    pool = pools(22 * MIB)
    pool.load(first)
    pool.load(second)
    pool.load(first)
    pool.load(third)
    assert pool.is_loaded(first)
    assert not pool.is_loaded(second)
    assert pool.is_loaded(third)


def test_pinned_ones_stay(pools: Any, large: list[Artifact]) -> None:
    pool = pools(12 * MIB)
    pool.pin({large[0]})
    for artifact in large:
        pool.load(artifact)
    assert pool.is_loaded(large[0])
    assert not pool.is_loaded(large[1])
    pool.pin(set())
    pool.load(large[1])
    assert not pool.is_loaded(large[0])


def test_what_is_loaded_ahead_is_there_for_the_first_request(pool: Pool, small: Artifact) -> None:
    pool.preload(small)
    assert pool.acquire(small).result(SOON_S).model
    assert pool.unload(small, timeout_s=0.01) is False


def test_what_cannot_be_loaded_ahead_is_logged(
    pool: Pool, blobs: BlobStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    bad = Artifact("onnxruntime", kept(blobs, tmp_path / "bad.onnx"))
    pool.preload(bad)
    with pytest.raises(InvalidModel):
        pool.acquire(bad).result(SOON_S)
    assert "cannot be loaded" in caplog.text


def test_an_eviction_waits_for_a_running_request(pools: Any, large: list[Artifact]) -> None:
    pool = pools(12 * MIB)
    lease = pool.acquire(large[0]).result(SOON_S)
    loading = pool.acquire(large[1])
    while pool.is_loaded(large[0]):
        pass
    assert not loading.done()
    assert lease.model.run({"x": np.zeros((1, 2048), np.float32)})[0].shape == (1, 1024)
    lease.release()
    loading.result(SOON_S).release()


def test_one_larger_than_the_limit_is_served_alone(pools: Any, large: list[Artifact]) -> None:
    pool = pools(1)
    for artifact in large:
        with pool.lease(artifact) as model:
            assert model.run({"x": np.zeros((1, 2048), np.float32)})[0].shape == (1, 1024)
        assert list(pool.loaded_bytes()) == [artifact]


def test_a_hundred_cycles_of_loading_leave_no_memory_behind(pool: Pool, large: list[Artifact]) -> None:
    def cycle(times: int) -> None:
        for number in range(times):
            artifact = large[number % len(large)]
            with pool.lease(artifact) as model:
                model.run({"x": np.zeros((8, 2048), np.float32)})
            assert pool.unload(artifact)

    cycle(12)
    give_back_freed()
    before = resident_bytes()
    cycle(100)
    give_back_freed()
    # One model that stayed in each cycle would be 800 MiB.
    assert resident_bytes() - before < 24 * MIB


def test_many_threads_under_a_tight_limit_all_get_their_answers(pools: Any, large: list[Artifact]) -> None:
    pool = pools(20 * MIB)

    def run(number: int) -> tuple[int, ...]:
        with pool.lease(large[number % len(large)]) as model:
            shape: tuple[int, ...] = model.run({"x": np.zeros((1, 2048), np.float32)})[0].shape
            return shape

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(run, range(40))) == {(1, 1024)}
