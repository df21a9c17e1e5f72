"""Clients that we did not write: tritonclient, unmodified, against a real server process, over every call it has."""

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import ml_dtypes
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from tests.e2e.clients import IMAGE, ROWS, TYPED, InLoop, perf_analyzer_measures, refused
from tests.e2e.conftest import BODY_SECONDS
from tests.e2e.service import Service

#: Options of perf_analyzer.
JSON_TENSORS = ["--input-tensor-format", "json", "--output-tensor-format", "json"]


@pytest.fixture(params=["sync", "aio"])
def client(request: pytest.FixtureRequest, served: Service) -> Iterator[Any]:
    url = f"127.0.0.1:{served.port}"
    aio = request.param == "aio"
    client: Any = InLoop(lambda: triton_aio.InferenceServerClient(url)) if aio else triton.InferenceServerClient(url)
    yield client
    client.close()


def tensor(name: str, array: np.ndarray, datatype: str, *, binary: bool = True) -> triton.InferInput:  # type: ignore[type-arg]
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def image(*, binary: bool = True) -> triton.InferInput:
    return tensor("image", IMAGE, "FP32", binary=binary)


def rows(*, binary: bool = True) -> triton.InferInput:
    return tensor("x", ROWS, "FP32", binary=binary)


def output(name: str, **wanted: Any) -> triton.InferRequestedOutput:
    return triton.InferRequestedOutput(name, **wanted)


def typed_inputs(*, binary: bool) -> list[triton.InferInput]:
    return [tensor(f"in_{name}", array, name.upper(), binary=binary or name == "fp16") for name, array in TYPED.items()]


# What there is


def test_the_server_describes_itself(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    metadata = client.get_server_metadata()
    assert metadata["name"] == "octet"
    assert metadata["version"]
    assert {"binary_tensor_data", "classification", "model_configuration", "model_repository", "statistics"} <= set(
        metadata["extensions"]
    )


def test_models_describe_themselves(client: Any) -> None:
    for version in ("", "1", "2", "int8"):
        assert client.is_model_ready("model", version)
        metadata = client.get_model_metadata("model", version)
        assert metadata["versions"] == ["1", "2"]
        assert metadata["platform"] == "onnxruntime_onnx"
        assert metadata["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 3, 8, 8]}]
        config = client.get_model_config("model", version)
        assert config["max_batch_size"] == 0
        assert config["input"] == [{"name": "image", "data_type": "TYPE_FP32", "dims": [-1, 3, 8, 8]}]
        assert [each["name"] for each in config["output"]] == ["logits"]
    assert client.get_model_config("linear")["dynamic_batching"] == {}
    for name, version in (("nothing", ""), ("model", "9"), ("model@fp16", "")):
        assert not client.is_model_ready(name, version)


def test_query_parameters_and_headers_of_others_are_ignored(client: Any) -> None:
    assert client.get_model_metadata("linear", query_params={"version": "9"}, headers={"X-Other": "1"})
    assert client.infer("linear", [rows()], query_params={"test_1": 1}, headers={"test": "1"})


# What it answers


def test_json_and_binary_give_the_same_from_every_name_of_a_variant(client: Any) -> None:
    answers = {}
    for label, version in (("original", "1"), ("int8", "2")):
        for binary in (False, True):
            for name, wanted in (("model", label), ("model", version), (f"model@{label}", "")):
                result = client.infer(
                    name, [image(binary=binary)], model_version=wanted, outputs=[output("logits", binary_data=binary)]
                )
                assert result.get_response()["model_version"] == version
                assert ("data" in result.get_output("logits")) is not binary
                answers[label, binary, name, wanted] = result.as_numpy("logits")
        same = [answer for key, answer in answers.items() if key[0] == label]
        for answer in same:
            np.testing.assert_allclose(answer, same[0], rtol=1e-5, atol=1e-6)
    original = answers["original", True, "model", "original"]
    quantized = answers["int8", True, "model", "int8"]
    np.testing.assert_array_equal(client.infer("model", [image()]).as_numpy("logits"), original)
    assert not np.array_equal(quantized, original)
    assert (quantized.argmax(1) == original.argmax(1)).all()


@pytest.mark.parametrize("binary", [True, False])
def test_every_datatype_comes_back_as_it_went(client: Any, binary: bool) -> None:
    asked = [output(f"out_{name}", binary_data=binary or name == "fp16") for name in TYPED]
    result = client.infer("types", typed_inputs(binary=binary), outputs=asked)
    for name, array in TYPED.items():
        back = result.as_numpy(f"out_{name}")
        assert result.get_output(f"out_{name}")["datatype"] == name.upper()
        if name == "bytes":
            values = [value if isinstance(value, bytes) else value.encode() for value in back]
            assert values == array.tolist()
        else:
            assert back.dtype == array.dtype
            assert back.tobytes() == array.tobytes()


def test_without_outputs_all_come_and_in_binary(client: Any) -> None:
    result = client.infer("types", typed_inputs(binary=True))
    assert [each["name"] for each in result.get_response()["outputs"]] == [f"out_{name}" for name in TYPED]
    assert all("binary_data_size" in each["parameters"] for each in result.get_response()["outputs"])


def test_some_outputs_may_be_binary_and_some_not(client: Any) -> None:
    asked = [output("out_int8", binary_data=False), output("out_fp64"), output("out_bytes")]
    result = client.infer("types", typed_inputs(binary=True), outputs=asked)
    assert [each["name"] for each in result.get_response()["outputs"]] == ["out_int8", "out_fp64", "out_bytes"]
    assert result.get_output("out_int8")["data"] == [-128, 7]
    assert result.as_numpy("out_fp64").tolist() == [0.1, 1e300]
    assert result.as_numpy("out_bytes").tolist() == TYPED["bytes"].tolist()
    assert result.as_numpy("out_bool") is None


def test_bf16_goes_where_fp32_is_expected(client: Any) -> None:
    short = ROWS.astype(ml_dtypes.bfloat16)
    from_short = client.infer("linear", [tensor("x", short, "BF16")]).as_numpy("logits")
    from_same = client.infer("linear", [tensor("x", short.astype(np.float32), "FP32")]).as_numpy("logits")
    np.testing.assert_array_equal(from_short, from_same)
    wrong = tensor("in_int8", np.ones(2, ml_dtypes.bfloat16), "BF16")
    with pytest.raises(InferenceServerException, match="unexpected datatype BF16 for inference input 'in_int8'"):
        client.infer("types", [wrong])


@pytest.mark.parametrize("binary", [True, False])
def test_classification_names_the_best(client: Any, binary: bool) -> None:
    logits = client.infer("linear", [rows()]).as_numpy("logits")
    result = client.infer("linear", [rows()], outputs=[output("logits", class_count=3, binary_data=binary)])
    top = result.as_numpy("logits")
    assert top.shape == (2, 3)
    for row, ranked in zip(logits, top, strict=True):
        for rank, entry in enumerate(ranked):
            value, index, label = (entry.decode() if isinstance(entry, bytes) else entry).split(":")
            assert int(index) == np.argsort(-row)[rank]
            assert float(value) == pytest.approx(row[int(index)], abs=1e-5)
            assert label == ["cat", "dog", "eel", "fox"][int(index)]


@pytest.mark.parametrize("up", [None, "gzip", "deflate"])
@pytest.mark.parametrize("down", [None, "gzip", "deflate"])
def test_bodies_may_be_packed_either_way(client: Any, up: str | None, down: str | None) -> None:
    plain = client.infer("linear", [rows()]).as_numpy("logits")
    for binary in (True, False):
        result = client.infer(
            "linear",
            [rows(binary=binary)],
            outputs=[output("logits", binary_data=binary)],
            request_compression_algorithm=up,
            response_compression_algorithm=down,
        )
        np.testing.assert_allclose(result.as_numpy("logits"), plain, rtol=1e-6)


def test_ids_and_parameters_are_taken(client: Any) -> None:
    result = client.infer(
        "linear",
        [rows()],
        request_id="r-1",
        sequence_id=7,
        sequence_start=True,
        sequence_end=True,
        priority=2,
        timeout=30_000_000,
        parameters={"mine": "text", "number": 3, "switch": True},
    )
    assert result.get_response()["id"] == "r-1"
    assert result.get_response()["parameters"]["variant"] == "original"
    assert "id" not in client.infer("linear", [rows()], sequence_id="s-7").get_response()
    with pytest.raises(InferenceServerException, match="reserved"):
        client.infer("linear", [rows()], parameters={"triton_mine": 1})


def test_a_tensor_may_be_empty_or_large(client: Any) -> None:
    for count in (0, 100_000):
        many = np.random.default_rng(count).normal(size=(count, 16)).astype(np.float32)
        result = client.infer("linear", [tensor("x", many, "FP32")])
        assert result.as_numpy("logits").shape == (count, 4)
        if count:
            one = client.infer("linear", [tensor("x", many[-1:], "FP32")]).as_numpy("logits")
            np.testing.assert_allclose(result.as_numpy("logits")[-1:], one, rtol=1e-4, atol=1e-5)


def test_tensor_objects_can_be_used_again(client: Any) -> None:
    used, asked = rows(), output("logits")
    first = client.infer("linear", [used], outputs=[asked]).as_numpy("logits")
    used.set_data_from_numpy(ROWS, binary_data=False)
    np.testing.assert_array_equal(client.infer("linear", [used], outputs=[asked]).as_numpy("logits"), first)
    used.set_shape([1, 16])
    used.set_data_from_numpy(ROWS[:1])
    np.testing.assert_allclose(client.infer("linear", [used]).as_numpy("logits"), first[:1], rtol=1e-6)


def test_bodies_made_and_read_apart_from_the_client(served: Service) -> None:
    body, length = triton.InferenceServerClient.generate_request_body([rows()], outputs=[output("logits")])
    answer = served.http.post(
        "/v2/models/linear/infer",
        content=body,
        headers={"Inference-Header-Content-Length": str(length), "Accept-Encoding": "identity"},
    )
    result = triton.InferenceServerClient.parse_response_body(
        answer.content, header_length=int(answer.headers["Inference-Header-Content-Length"])
    )
    assert result.as_numpy("logits").shape == (2, 4)


def test_many_requests_at_once_each_get_their_own_answer(served: Service) -> None:
    batches = [np.full((1 + number % 3, 16), number / 40, np.float32) for number in range(40)]
    with triton.InferenceServerClient(f"127.0.0.1:{served.port}", concurrency=8) as client:
        alone = [client.infer("linear", [tensor("x", batch, "FP32")]).as_numpy("logits") for batch in batches]
        running = [
            client.async_infer("linear", [tensor("x", batch, "FP32")], request_id=str(number))
            for number, batch in enumerate(batches)
        ]
        answers = [each.get_result() for each in running]

    async def together() -> list[Any]:
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{served.port}") as client:
            calls = [
                client.infer("linear", [tensor("x", batch, "FP32")], request_id=str(number))
                for number, batch in enumerate(batches)
            ]
            return list(await asyncio.gather(*calls))

    for results in (answers, asyncio.run(together())):
        for number, (result, expected) in enumerate(zip(results, alone, strict=True)):
            assert result.get_response()["id"] == str(number)
            np.testing.assert_allclose(result.as_numpy("logits"), expected, rtol=1e-5, atol=1e-6)


# What it has in memory, and has answered


def test_the_index_lists_every_variant(client: Any) -> None:
    index = client.get_model_repository_index()
    assert [(row["name"], row["version"], row["state"]) for row in index] == [
        ("linear", "1", "READY"),
        ("model", "1", "READY"),
        ("model", "2", "READY"),
        ("types", "1", "READY"),
    ]


def test_models_are_unloaded_and_loaded(client: Any) -> None:
    client.load_model("model")
    assert client.is_model_ready("model")
    client.unload_model("model@int8")
    assert not client.is_model_ready("model", "int8")
    assert client.is_model_ready("model")
    states = {row["version"]: row["state"] for row in client.get_model_repository_index() if row["name"] == "model"}
    assert states == {"1": "READY", "2": "UNAVAILABLE"}
    client.unload_model("model", unload_dependents=True)
    assert not client.is_model_ready("model")
    with pytest.raises(InferenceServerException, match="was unloaded"):
        client.infer("model", [image()])
    client.load_model("model@original")
    assert client.infer("model", [image()]).as_numpy("logits").shape == (2, 4)
    assert client.is_model_ready("model")
    client.load_model("model@int8")
    assert client.is_model_ready("model", "int8")
    client.load_model("model")
    with pytest.raises(InferenceServerException, match="failed to load 'nothing'"):
        client.load_model("nothing")
    with pytest.raises(InferenceServerException, match="failed to unload 'nothing'"):
        client.unload_model("nothing")
    with pytest.raises(InferenceServerException, match="'config' is not offered"):
        client.load_model("model", config="{}")


def test_statistics_add_up(client: Any) -> None:
    def tally(**which: str) -> Any:
        (found,) = client.get_inference_statistics(**which)["model_stats"]
        return found

    before = tally(model_name="model", model_version="2")
    for count in (1, 2):
        client.infer("model", [tensor("image", IMAGE[:count], "FP32")], model_version="int8")
    after = tally(model_name="model", model_version="int8")
    assert after["version"] == "2"
    assert after["inference_count"] == before["inference_count"] + 3
    assert after["last_inference"] >= before["last_inference"]
    stats = after["inference_stats"]
    for name in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        assert stats[name]["count"] == before["inference_stats"][name]["count"] + 2
    assert sum(batch["compute_infer"]["count"] for batch in after["batch_stats"]) == after["execution_count"]
    assert sorted(row["version"] for row in client.get_inference_statistics("model")["model_stats"]) == ["1", "2"]
    everything = client.get_inference_statistics()["model_stats"]
    assert {row["name"] for row in everything} == {"linear", "model", "types"}
    assert tally(model_name="types") == next(row for row in everything if row["name"] == "types")


def test_settings_are_read_and_kept(client: Any, served: Service) -> None:
    settings = client.get_log_settings()
    assert settings["log_info"] is True
    assert client.update_log_settings(settings) == settings
    with pytest.raises(InferenceServerException, match="is fixed when the server starts"):
        client.update_log_settings({"log_verbose_level": 3})
    for name in (None, "linear"):
        trace = client.get_trace_settings(name)
        assert trace["trace_level"] == ["OFF"]
        assert client.update_trace_settings(name, {"trace_level": ["OFF"], "trace_rate": None}) == trace
    with pytest.raises(InferenceServerException, match="is fixed when the server starts"):
        client.update_trace_settings("linear", {"trace_level": ["TIMESTAMPS"]})


# What it refuses


def test_errors_are_read(client: Any) -> None:
    def infer(*inputs: triton.InferInput, model: str = "linear", **options: Any) -> Callable[[], Any]:
        return lambda: client.infer(model, list(inputs), **options)

    refused("404", "Request for unknown model", lambda: client.get_model_metadata("nothing"))
    refused("404", "Request for unknown model", lambda: client.get_model_config("nothing"))
    refused("404", "Request for unknown model", lambda: client.get_inference_statistics("nothing"))
    refused("404", "Request for unknown model", infer(rows(), model="nothing"))
    refused("404", "has no variant '9'", infer(rows(), model_version="9"))
    refused("400", "unexpected inference input 'image'", infer(image()))
    refused("400", "is given twice", infer(rows(), rows()))
    refused("400", "unexpected shape", infer(tensor("x", ROWS[:, :4], "FP32")))
    refused("400", "unexpected datatype FP64", infer(tensor("x", ROWS.astype(np.float64), "FP64")))
    refused("400", "unexpected inference output 'z'", infer(rows(), outputs=[output("z")]))
    refused("400", "is asked for twice", infer(rows(), outputs=[output("logits"), output("logits")]))
    refused("400", "FP16, which has no JSON form", infer(*typed_inputs(binary=True), model="types", outputs=[
        output("out_fp16", binary_data=False)]))  # fmt: skip
    unset = triton.InferInput("x", [2, 16], "FP32")
    refused("400", "neither 'data' nor 'binary_data_size'", infer(unset))


def test_shared_memory_is_not_offered(client: Any) -> None:
    for call in (
        client.get_system_shared_memory_status,
        client.get_cuda_shared_memory_status,
        lambda: client.register_system_shared_memory("r", "/r", 64),
        lambda: client.register_cuda_shared_memory("r", b"handle", 0, 64),
        client.unregister_system_shared_memory,
        lambda: client.unregister_cuda_shared_memory("r"),
    ):
        refused("501", "shared memory is not offered", call)
    shared = triton.InferInput("x", [2, 16], "FP32")
    shared.set_shared_memory("r", 128)
    refused("501", "shared memory", lambda: client.infer("linear", [shared]))
    into = output("logits")
    into.set_shared_memory("r", 128)
    refused("501", "shared memory", lambda: client.infer("linear", [rows()], outputs=[into]))


@pytest.mark.parametrize(
    "options",
    [[], *(pytest.param(options, marks=pytest.mark.slow) for options in (["-a"], JSON_TENSORS))],
    ids=str,
)
def test_perf_analyzer_measures_without_an_error(served: Service, options: list[str]) -> None:
    perf_analyzer_measures("http", served.port, options)


def test_a_body_that_does_not_come_is_not_waited_for(served: Service) -> None:
    """A client that dawdles, and one that goes away, cost others nothing."""
    opening = b"POST /v2/models/linear/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as gone:
        gone.sendall(opening + b'{"inputs"')
    with socket.create_connection(("127.0.0.1", served.port), timeout=5 * BODY_SECONDS) as slow:
        slow.sendall(opening + b'{"inputs"')
        answer = b""
        while b"}" not in answer and (piece := slow.recv(4096)):
            answer += piece
    head, _, content = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == b"408"
    assert json.loads(content) == {"error": f"the body did not come within {BODY_SECONDS} seconds"}
    with triton.InferenceServerClient(f"127.0.0.1:{served.port}") as client:
        assert client.infer("linear", [rows()])
    assert "Traceback" not in served.processes["serve"].log.read_text()


def test_what_comes_in_chunks_is_one_body(served: Service) -> None:
    content = json.dumps(
        {"inputs": [{"name": "x", "shape": [2, 16], "datatype": "FP32", "data": ROWS.ravel().tolist()}]}
    ).encode()
    pieces = (content[start : start + 7] for start in range(0, len(content), 7))
    answer = httpx.post(f"{served.url}/v2/models/linear/infer", content=pieces)
    assert answer.status_code == 200
    assert answer.json()["outputs"][0]["shape"] == [2, 4]
