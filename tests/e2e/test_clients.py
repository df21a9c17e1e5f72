"""Clients that we did not write: tritonclient, unmodified."""

import asyncio

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio

from tests.e2e.service import Service

IMAGE = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)


@pytest.fixture
def served(embedded: Service, model_bytes: bytes, dataset_bytes: bytes) -> Service:
    embedded.upload_dataset(dataset_bytes)
    embedded.upload_model(model_bytes)
    assert embedded.finished(embedded.submit(method="int8", dataset="samples"))["state"] == "succeeded"
    return embedded


def _input(binary: bool):  # type: ignore[no-untyped-def]
    tensor = triton.InferInput("image", list(IMAGE.shape), "FP32")
    tensor.set_data_from_numpy(IMAGE, binary_data=binary)
    return tensor


def test_tritonclient_lists_the_models_and_infers_in_json_and_binary(served: Service) -> None:
    with triton.InferenceServerClient(f"127.0.0.1:{served.port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.get_server_metadata()["extensions"]
        index = client.get_model_repository_index()
        assert [(row["name"], row["version"], row["state"]) for row in index] == [
            ("model", "1", "READY"),
            ("model", "2", "READY"),
        ]
        assert client.get_model_metadata("model")["inputs"][0]["shape"] == [-1, 3, 8, 8]
        assert client.get_model_config("model", "2")["max_batch_size"] == 0
        answers = {}
        for label, version in (("original", "1"), ("int8", "2")):
            assert client.is_model_ready("model", label)
            for binary in (False, True):
                outputs = [triton.InferRequestedOutput("logits", binary_data=binary)]
                for name, wanted in (("model", label), ("model", version), (f"model@{label}", "")):
                    result = client.infer(name, [_input(binary)], model_version=wanted, outputs=outputs)
                    assert result.get_response()["model_version"] == version
                    answers[label, binary, name, wanted] = result.as_numpy("logits")
            same = [answer for key, answer in answers.items() if key[0] == label]
            for answer in same:
                np.testing.assert_allclose(answer, same[0], rtol=1e-5, atol=1e-6)
        default = client.infer("model", [_input(True)], request_id="r1")
        assert default.get_response()["id"] == "r1"
        original = answers["original", True, "model", "original"]
        quantized = answers["int8", True, "model", "int8"]
        np.testing.assert_array_equal(default.as_numpy("logits"), original)
        assert not np.array_equal(quantized, original)
        assert (quantized.argmax(1) == original.argmax(1)).all()
        top = client.infer("model", [_input(True)], outputs=[triton.InferRequestedOutput("logits", class_count=1)])
        assert int(top.as_numpy("logits")[0][0].split(b":")[1]) == original[0].argmax()


def test_tritonclient_reads_our_errors(served: Service) -> None:
    with triton.InferenceServerClient(f"127.0.0.1:{served.port}") as client:
        with pytest.raises(triton.InferenceServerException, match="Request for unknown model"):
            client.get_model_metadata("nothing")
        wrong = triton.InferInput("image", [1, 3, 4, 4], "FP32")
        wrong.set_data_from_numpy(np.zeros((1, 3, 4, 4), np.float32))
        with pytest.raises(triton.InferenceServerException, match="unexpected shape"):
            client.infer("model", [wrong])
        assert not client.is_model_ready("nothing")


def test_tritonclient_aio_infers(served: Service) -> None:
    async def infer() -> np.ndarray:  # type: ignore[type-arg]
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{served.port}") as client:
            assert await client.is_model_ready("model")
            result = await client.infer("model", [_input(True)], model_version="int8")
            array: np.ndarray = result.as_numpy("logits")  # type: ignore[type-arg]
            return array

    assert asyncio.run(infer()).shape == (2, 4)
