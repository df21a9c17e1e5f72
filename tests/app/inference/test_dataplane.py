"""The protocol's core over real sessions, joined and alone."""

import asyncio
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest

from app.blobs import LocalBlobStore
from app.errors import DeadlineUnmet, Invalid
from app.inference.dataplane import (
    DataPlane,
    InferenceRequest,
    InferenceResponse,
    InputTensor,
    RequestedOutput,
    Served,
    checked,
)
from app.registry import Database
from app.serving.batcher import Batcher
from app.serving.figures import of_this_process
from app.serving.loading import Artifact, Loader
from app.serving.pool import Pool
from app.serving.statistics import Statistics
from tests import graphs
from tests.app.serving.artifacts import kept_model

MODELS = {"linear": (graphs.linear_classifier, (16,)), "convolution": (graphs.convolution, (3, 8, 8))}


class Service:
    """One process without a registry: what it serves is said by the tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = LocalBlobStore(folder / "blobs")
        self.pool = Pool(self.blobs, folder, folder / "mapped", intra_op_threads=1)
        self.statistics = Statistics()
        self.batcher = Batcher(self.pool, self.statistics, threads=1)
        figures = partial(of_this_process, self.statistics, self.pool)
        self.dataplane = DataPlane(Database.__new__(Database), self.batcher, figures)

    def serve(self, model: onnx.ModelProto, *, batchable: bool = True) -> Served:
        artifact = kept_model(self.blobs, model, self.folder)
        loaded = Loader(self.blobs, self.folder, self.folder / "mapped", intra_op_threads=1).load(artifact)
        return Served("m", "original", 1, (1,), artifact, loaded.inputs, loaded.outputs, None, batchable)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    yield service
    service.batcher.close()
    service.pool.close()


def asking(served: Served, array: np.ndarray, **changes: object) -> InferenceRequest:
    return InferenceRequest([InputTensor(served.inputs[0].name, "FP32", array)], **changes)  # type: ignore[arg-type]


def answers(service: Service, served: Served, requests: list[InferenceRequest]) -> list[InferenceResponse]:
    """All of `requests` asked while the only thread that computes is held: so those that may be joined are."""
    held = threading.Event()
    service.batcher._threads.submit(lambda: held.wait() and None)

    async def ask() -> list[InferenceResponse]:
        asked = [checked(served, request) for request in requests]
        asking = [asyncio.create_task(service.dataplane.infer(each)) for each in asked]
        await asyncio.sleep(0)
        held.set()
        return await asyncio.gather(*asking)

    try:
        return asyncio.run(ask())
    finally:
        held.set()


@pytest.mark.parametrize("name", MODELS)
def test_joined_answers_are_those_that_each_gets_alone(service: Service, name: str) -> None:
    make, shape = MODELS[name]
    served = service.serve(make())
    random = np.random.default_rng(0)
    requests = [asking(served, random.normal(size=(rows, *shape)).astype(np.float32)) for rows in (1, 2, 3, 1, 4)]
    together = answers(service, served, requests)
    assert max(response.timing.batch_rows for response in together if response.timing) == 11
    for request, response in zip(requests, together, strict=True):
        (alone,) = answers(service, served, [request])
        assert alone.timing is not None
        assert alone.timing.batch_rows == len(request.inputs[0].array)
        np.testing.assert_allclose(response.outputs[0].array, alone.outputs[0].array, rtol=1e-5, atol=1e-6)


def test_variants_whose_answers_depend_on_the_batch_are_asked_one_by_one(service: Service) -> None:
    served = service.serve(graphs.linear_classifier(), batchable=False)
    requests = [asking(served, np.ones((2, 16), np.float32)) for _ in range(4)]
    for response in answers(service, served, requests):
        assert response.timing is not None
        assert response.timing.batch_rows == 2


def test_what_is_wrong_is_said_before_anything_loads(service: Service) -> None:
    served = service.serve(graphs.linear_classifier())
    for request in (asking(served, np.ones((2, 15), np.float32)), InferenceRequest([])):
        with pytest.raises(Invalid):
            checked(served, request)
    assert not service.pool.is_loaded(served.artifact)


def test_outputs_come_as_they_were_asked_for(service: Service) -> None:
    served = service.serve(graphs.linear_classifier())
    x = np.ones((1, 16), np.float32)
    ranked, plain = answers(
        service, served, [asking(served, x, outputs=[RequestedOutput("logits", classification=2)]), asking(served, x)]
    )
    assert ranked.outputs[0].array.shape == (1, 2)
    assert plain.outputs[0].array.shape == (1, 4)
    best = int(ranked.outputs[0].array[0, 0].split(b":")[1])
    assert best == int(plain.outputs[0].array.argmax())


def test_no_timeout_is_none_at_all_and_one_that_has_passed_refuses(service: Service) -> None:
    served = service.serve(graphs.linear_classifier())
    x = np.ones((1, 16), np.float32)
    assert answers(service, served, [asking(served, x, timeout_us=0, priority=1)])
    # While the model loads, a microsecond passes.
    service.pool.unload(served.artifact)
    with pytest.raises(DeadlineUnmet, match="Request timeout expired"):
        answers(service, served, [asking(served, x, timeout_us=1)])
    counted = service.statistics.snapshot()["m", 1]
    assert (counted.success.count, counted.fail.count) == (1, 1)


def test_a_request_that_was_cancelled_while_its_model_loads_is_not_computed(service: Service) -> None:
    served = service.serve(graphs.linear_classifier())
    request = asking(served, np.ones((1, 16), np.float32))

    async def ask() -> None:
        gone = asyncio.create_task(service.dataplane.infer(checked(served, request)))
        stays = asyncio.create_task(service.dataplane.infer(checked(served, request)))
        await asyncio.sleep(0)
        gone.cancel()
        await stays
        with pytest.raises(asyncio.CancelledError):
            await gone

    asyncio.run(ask())
    assert service.statistics.snapshot()["m", 1].rows == 1


def test_a_deleted_artifact_is_said_to_be_gone(service: Service) -> None:
    served = service.serve(graphs.linear_classifier())
    service.blobs.delete(served.artifact.digest)
    assert isinstance(served.artifact, Artifact)
    with pytest.raises(Invalid, match="deleted"):
        answers(service, served, [asking(served, np.ones((1, 16), np.float32))])
