"""The protocol's core over real sessions, joined and alone."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest

from app.blobs import open_store
from app.caller import LOCAL
from app.engines import TensorSpec
from app.errors import DeadlineUnmet, Invalid
from app.inference.core import InferenceCore
from app.inference.request import InferenceRequest, RequestedOutput, RequestHeader, TensorHeader
from app.inference.response import InferenceResponse
from app.inference.served_variant import ServedVariant
from app.inference.tensors import to_bytes
from app.inference.validation import plan_for
from app.inference.variant_cache import VariantCache
from app.serving.batch_queue import Answer, BatchLimits
from app.serving.batcher import Batcher
from app.serving.loading import Artifact, Loader
from app.serving.padding import Padding
from app.serving.pool import Pool
from app.serving.statistics import Statistics
from app.settings import Settings
from tests import graphs
from tests.app.serving.artifacts import kept_model

MODELS = {"linear": (graphs.linear_classifier, (16,)), "convolution": (graphs.convolution, (3, 8, 8))}


class Service:
    """One process without a registry: what it serves is said by the tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = open_store(Settings(home=folder))
        self.pool = Pool(self.blobs, folder, folder / "mapped", intra_op_threads=1)
        self.statistics = Statistics()
        self.variants: dict[str, ServedVariant] = {}
        self.wait_for_rows(0)

    def wait_for_rows(self, rows: int) -> None:
        """From now on, nothing is computed before so many rows wait for it."""
        none: Any = None
        limits = BatchLimits(batch_rows=rows, delay_ns=10**12) if rows else None
        self.batcher = Batcher(self.pool, self.statistics, threads=1, limits=limits)
        self.core = InferenceCore(cast(VariantCache, self), self.batcher, none, none, threads=1)

    def get(self, name: str, version: str | None) -> ServedVariant:
        return self.variants[name]

    def serve(self, model: onnx.ModelProto, *, batchable: bool = True, padding: Padding | None = None) -> ServedVariant:
        artifact = kept_model(self.blobs, model, self.folder)
        loaded = Loader(self.blobs, self.folder, self.folder / "mapped", intra_op_threads=1).load(artifact, ExitStack())
        return ServedVariant(
            "m", "original", 1, (1,), artifact, loaded.inputs, loaded.outputs, None, batchable, padding
        )


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    yield service
    service.batcher.close()
    service.pool.close()


def asking(variant: ServedVariant, array: np.ndarray, **changes: object) -> InferenceRequest:
    tensor = TensorHeader(variant.inputs[0].name, "FP32", array.shape)
    return InferenceRequest(RequestHeader((tensor,), **changes), [array])  # type: ignore[arg-type]


class Unparsed:
    """A request that is parsed already, to the one model here."""

    model = "m"
    version = None
    request_id = "1"

    def __init__(self, request: InferenceRequest) -> None:
        self._request = request

    def header(self, name: bytes) -> None:
        return None

    def parses_quickly(self, inputs: Sequence[TensorSpec]) -> bool:
        return True

    def parse(self, inputs: Sequence[TensorSpec]) -> InferenceRequest:
        return self._request

    async def wait_for(self, answer: "asyncio.Future[Answer]") -> Answer:
        return await answer


async def answer(service: Service, variant: ServedVariant, request: InferenceRequest) -> InferenceResponse:
    service.variants["m"] = variant
    response = await service.core.answer(Unparsed(request), LOCAL)
    assert response is not None
    return response


def answers(service: Service, variant: ServedVariant, requests: list[InferenceRequest]) -> list[InferenceResponse]:
    """All of `requests` asked together."""

    async def ask() -> list[InferenceResponse]:
        return await asyncio.gather(*[answer(service, variant, request) for request in requests])

    return asyncio.run(ask())


@pytest.mark.parametrize("name", MODELS)
def test_joined_answers_are_those_that_each_gets_alone(service: Service, name: str) -> None:
    make, shape = MODELS[name]
    variant = service.serve(make())
    random = np.random.default_rng(0)
    requests = [asking(variant, random.normal(size=(rows, *shape)).astype(np.float32)) for rows in (1, 2, 3, 1, 4)]
    service.batcher.close()
    service.wait_for_rows(11)
    together = answers(service, variant, requests)
    assert max(response.timing.batch_rows for response in together if response.timing) == 11
    service.batcher.close()
    service.wait_for_rows(0)
    for request, response in zip(requests, together, strict=True):
        (alone,) = answers(service, variant, [request])
        assert alone.timing is not None
        assert alone.timing.batch_rows == len(request.arrays[0])
        np.testing.assert_allclose(response.outputs[0].array, alone.outputs[0].array, rtol=1e-5, atol=1e-6)


TOKENS = (("ids", 1), ("mask", 1))


def sentence(length: int, *, rows: int = 1, seed: int = 0) -> InferenceRequest:
    ids = np.random.default_rng(seed).integers(1, 50, (rows, length))
    tensors = tuple(TensorHeader(name, "INT64", ids.shape) for name in ("ids", "mask"))
    return InferenceRequest(RequestHeader(tensors), [ids, np.ones_like(ids)])


@pytest.mark.parametrize(
    ("output", "padding"),
    [("mean", Padding(TOKENS, ())), ("tokens", Padding(TOKENS, (("tokens", 1),)))],
)
def test_sequences_of_different_length_get_the_answers_that_each_gets_alone(
    service: Service, output: str, padding: Padding
) -> None:
    variant = service.serve(graphs.masked_attention(output=output), padding=padding)
    requests = [sentence(length, rows=1 + length % 2, seed=length) for length in (17, 20, 19, 20, 20, 18)]
    alone = [answers(service, variant, [request])[0] for request in requests]
    service.batcher.close()
    service.wait_for_rows(8)
    for right, response in zip(alone, answers(service, variant, requests), strict=True):
        assert response.timing is not None
        assert response.timing.batch_rows == 8
        (expected,), (joined,) = right.outputs, response.outputs
        np.testing.assert_allclose(joined.array, expected.array, rtol=1e-5, atol=1e-6)
        assert to_bytes(joined.array) == np.ascontiguousarray(joined.array).tobytes()


def test_sequences_are_not_padded_without_proof(service: Service) -> None:
    variant = service.serve(graphs.masked_attention(output="plain mean"))
    service.batcher.close()
    service.wait_for_rows(3)
    for response in answers(service, variant, [sentence(length) for length in (17, 18, 19)]):
        assert response.timing is not None
        assert response.timing.batch_rows == 1


def test_variants_whose_answers_depend_on_the_batch_are_asked_one_by_one(service: Service) -> None:
    variant = service.serve(graphs.linear_classifier(), batchable=False)
    requests = [asking(variant, np.ones((2, 16), np.float32)) for _ in range(4)]
    for response in answers(service, variant, requests):
        assert response.timing is not None
        assert response.timing.batch_rows == 2


def test_what_is_wrong_is_said_before_anything_loads(service: Service) -> None:
    variant = service.serve(graphs.linear_classifier())
    for request in (asking(variant, np.ones((2, 15), np.float32)), InferenceRequest(RequestHeader(()), [])):
        with pytest.raises(Invalid):
            plan_for(variant, request.header)
    assert not service.pool.is_loaded(variant.artifact)


def test_outputs_come_as_they_were_asked_for(service: Service) -> None:
    variant = service.serve(graphs.linear_classifier())
    x = np.ones((1, 16), np.float32)
    ranked, plain = answers(
        service,
        variant,
        [asking(variant, x, outputs=(RequestedOutput("logits", classification=2),)), asking(variant, x)],
    )
    assert ranked.outputs[0].array.shape == (1, 2)
    assert plain.outputs[0].array.shape == (1, 4)
    best = int(ranked.outputs[0].array[0, 0].split(b":")[1])
    assert best == int(plain.outputs[0].array.argmax())


def test_no_timeout_is_none_at_all_and_one_that_has_passed_refuses(service: Service) -> None:
    variant = service.serve(graphs.linear_classifier())
    x = np.ones((1, 16), np.float32)
    assert answers(service, variant, [asking(variant, x, timeout_us=0, priority=1)])
    # While the model loads, a microsecond passes.
    service.pool.unload(variant.artifact)
    with pytest.raises(DeadlineUnmet, match="Request timeout expired"):
        answers(service, variant, [asking(variant, x, timeout_us=1)])
    counted = service.statistics.snapshot()["m", 1]
    assert (counted.success.count, counted.fail.count) == (1, 1)


def test_a_request_that_was_cancelled_while_its_model_loads_is_not_computed(service: Service) -> None:
    variant = service.serve(graphs.linear_classifier())
    request = asking(variant, np.ones((1, 16), np.float32))

    async def ask() -> None:
        gone = asyncio.create_task(answer(service, variant, request))
        stays = asyncio.create_task(answer(service, variant, request))
        await asyncio.sleep(0)
        gone.cancel()
        await stays
        with pytest.raises(asyncio.CancelledError):
            await gone

    asyncio.run(ask())
    assert service.statistics.snapshot()["m", 1].rows == 1


def test_a_deleted_artifact_is_said_to_be_gone(service: Service) -> None:
    variant = service.serve(graphs.linear_classifier())
    service.blobs.delete(variant.artifact.digest)
    assert isinstance(variant.artifact, Artifact)
    with pytest.raises(Invalid, match="deleted"):
        answers(service, variant, [asking(variant, np.ones((1, 16), np.float32))])
