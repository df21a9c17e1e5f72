"""tritonclient over gRPC, unmodified, against a real server process, over every call it has."""

import asyncio
import queue
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from tests import graphs
from tests.e2e.clients import IMAGE, ROWS, TYPED, InLoop, perf_analyzer_measures, refused
from tests.e2e.service import Service
from tests.servers import free_port

NOT_FOUND, WRONG, NOT_OFFERED = (f"StatusCode.{name}" for name in ("NOT_FOUND", "INVALID_ARGUMENT", "UNIMPLEMENTED"))


@pytest.fixture(params=["sync", "aio"])
def client(request: pytest.FixtureRequest, served: Service) -> Iterator[Any]:
    url = f"127.0.0.1:{served.grpc_port}"
    aio = request.param == "aio"
    client: Any = InLoop(lambda: triton_aio.InferenceServerClient(url)) if aio else triton.InferenceServerClient(url)
    yield client
    client.close()


def tensor(name: str, array: np.ndarray, datatype: str) -> triton.InferInput:  # type: ignore[type-arg]
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def rows(array: np.ndarray = ROWS) -> triton.InferInput:  # type: ignore[type-arg]
    return tensor("x", array, "FP32")


def image(count: int = 2) -> triton.InferInput:
    return tensor("image", IMAGE[:count], "FP32")


def typed_inputs() -> list[triton.InferInput]:
    return [tensor(f"in_{name}", array, name.upper()) for name, array in TYPED.items()]


def output(name: str, **wanted: Any) -> triton.InferRequestedOutput:
    return triton.InferRequestedOutput(name, **wanted)


# What there is


def test_the_server_describes_itself(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    metadata = client.get_server_metadata()
    assert metadata.name == "octet"
    assert metadata.version
    assert {"classification", "model_configuration", "model_repository", "statistics"} <= set(metadata.extensions)


def test_models_describe_themselves(client: Any) -> None:
    for version in ("", "1", "2", "int8"):
        assert client.is_model_ready("model", version)
        metadata = client.get_model_metadata("model", version)
        assert list(metadata.versions) == ["1", "2"]
        assert metadata.platform == "onnxruntime_onnx"
        (described,) = metadata.inputs
        assert (described.name, described.datatype, list(described.shape)) == ("image", "FP32", [-1, 3, 8, 8])
        config = client.get_model_config("model", version, as_json=True)["config"]
        assert config.get("max_batch_size", 0) == 0
        assert config["input"] == [{"name": "image", "data_type": "TYPE_FP32", "dims": ["-1", "3", "8", "8"]}]
        assert [each["name"] for each in config["output"]] == ["logits"]
        assert config["version_policy"] == {"specific": {"versions": ["2" if version in {"2", "int8"} else "1"]}}
    assert client.get_model_config("linear").config.HasField("dynamic_batching")
    for name, version in (("nothing", ""), ("model", "9"), ("model@fp16", "")):
        assert not client.is_model_ready(name, version)


# What it answers


def test_every_name_of_a_variant_gives_the_same_answer(client: Any) -> None:
    answers = {}
    for label, version in (("original", "1"), ("int8", "2")):
        for name, wanted in (("model", label), ("model", version), (f"model@{label}", "")):
            result = client.infer(name, [image()], model_version=wanted)
            assert result.get_response().model_version == version
            assert result.get_response().parameters["variant"].string_param == label
            answers.setdefault(label, []).append(result.as_numpy("logits"))
        for answer in answers[label]:
            np.testing.assert_allclose(answer, answers[label][0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(client.infer("model", [image()]).as_numpy("logits"), answers["original"][0], rtol=1e-5)
    assert not np.array_equal(answers["int8"][0], answers["original"][0])


def test_both_faces_give_the_same_answer(client: Any, served: Service) -> None:
    by_http = served.http.post(
        "/v2/models/linear/infer",
        json={"inputs": [{"name": "x", "shape": [2, 16], "datatype": "FP32", "data": ROWS.ravel().tolist()}]},
    ).json()
    by_grpc = client.infer("linear", [rows()])
    np.testing.assert_allclose(by_grpc.as_numpy("logits").ravel(), by_http["outputs"][0]["data"], rtol=1e-5)


def test_every_datatype_comes_back_as_it_went(client: Any) -> None:
    result = client.infer("types", typed_inputs())
    assert [each.name for each in result.get_response().outputs] == [f"out_{name}" for name in TYPED]
    for name, array in TYPED.items():
        back = result.as_numpy(f"out_{name}")
        assert result.get_output(f"out_{name}").datatype == name.upper()
        assert back.tolist() == array.tolist()


def test_only_the_outputs_that_are_asked_for_come(client: Any) -> None:
    result = client.infer("types", typed_inputs(), outputs=[output("out_fp64"), output("out_bytes")])
    assert [each.name for each in result.get_response().outputs] == ["out_fp64", "out_bytes"]
    assert result.as_numpy("out_fp64").tolist() == TYPED["fp64"].tolist()
    assert result.as_numpy("out_bool") is None


def test_bf16_goes_where_fp32_is_expected(client: Any) -> None:
    short = ROWS.astype(ml_dtypes.bfloat16)
    from_short = client.infer("linear", [tensor("x", short, "BF16")]).as_numpy("logits")
    from_same = client.infer("linear", [rows(short.astype(np.float32))]).as_numpy("logits")
    np.testing.assert_array_equal(from_short, from_same)


def test_classification_names_the_best(client: Any) -> None:
    logits = client.infer("linear", [rows()]).as_numpy("logits")
    top = client.infer("linear", [rows()], outputs=[output("logits", class_count=3)]).as_numpy("logits")
    assert top.shape == (2, 3)
    for row, ranked in zip(logits, top, strict=True):
        for rank, entry in enumerate(ranked):
            value, index, label = entry.decode().split(":")
            assert int(index) == np.argsort(-row)[rank]
            assert float(value) == pytest.approx(row[int(index)], abs=1e-5)
            assert label == ["cat", "dog", "eel", "fox"][int(index)]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_messages_may_be_packed(client: Any, algorithm: str) -> None:
    plain = client.infer("linear", [rows()]).as_numpy("logits")
    packed = client.infer("linear", [rows()], compression_algorithm=algorithm).as_numpy("logits")
    np.testing.assert_allclose(packed, plain, rtol=1e-6)


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
        client_timeout=30,
        headers={"test": "1"},
        parameters={"mine": "text", "number": 3, "switch": True, "fraction": 0.5},
    )
    assert result.get_response().id == "r-1"
    assert client.infer("linear", [rows()], sequence_id="s-7").get_response().id == ""


def test_a_tensor_may_be_empty_or_large(client: Any) -> None:
    for count in (0, 100_000):
        many = np.random.default_rng(count).normal(size=(count, 16)).astype(np.float32)
        answer = client.infer("linear", [rows(many)]).as_numpy("logits")
        # tritonclient makes one flat array of what it takes for nothing.
        assert answer.size == count * 4
        if count:
            one = client.infer("linear", [rows(many[-1:])]).as_numpy("logits")
            np.testing.assert_allclose(answer[-1:], one, rtol=1e-4, atol=1e-5)


def test_tensor_objects_can_be_used_again(client: Any) -> None:
    used, asked = rows(), output("logits")
    first = client.infer("linear", [used], outputs=[asked]).as_numpy("logits")
    np.testing.assert_array_equal(client.infer("linear", [used], outputs=[asked]).as_numpy("logits"), first)
    used.set_shape([1, 16])
    used.set_data_from_numpy(ROWS[:1])
    np.testing.assert_allclose(client.infer("linear", [used]).as_numpy("logits"), first[:1], rtol=1e-6)


# Many at once

BATCHES = [np.full((1 + number % 3, 16), number / 40, np.float32) for number in range(40)]


@pytest.fixture
def alone(served: Service) -> list[Any]:
    """What each of `BATCHES` gets when nothing else is asked."""
    with triton.InferenceServerClient(f"127.0.0.1:{served.grpc_port}") as client:
        return [client.infer("linear", [rows(batch)]).as_numpy("logits") for batch in BATCHES]


def check(results: list[Any], alone: list[Any]) -> None:
    assert [result.get_response().id for result in results] == [str(number) for number in range(len(alone))]
    for result, expected in zip(results, alone, strict=True):
        np.testing.assert_allclose(result.as_numpy("logits"), expected, rtol=1e-5, atol=1e-6)


def test_many_requests_at_once_each_get_their_own_answer(served: Service, alone: list[Any]) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    with triton.InferenceServerClient(f"127.0.0.1:{served.grpc_port}") as client:
        for number, batch in enumerate(BATCHES):
            client.async_infer(
                "linear", [rows(batch)], lambda result, error: answers.put((result, error)), request_id=str(number)
            )
        got = [answers.get(timeout=30) for _ in BATCHES]
    assert [error for _, error in got if error is not None] == []
    check(sorted((result for result, _ in got), key=lambda result: int(result.get_response().id)), alone)


def test_a_stream_answers_in_order_while_several_are_under_way(served: Service, alone: list[Any]) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    with triton.InferenceServerClient(f"127.0.0.1:{served.grpc_port}") as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for number, batch in enumerate(BATCHES):
            client.async_stream_infer(
                "linear", [rows(batch)], request_id=str(number), enable_empty_final_response=number % 2 == 0
            )
        client.stop_stream()
    got = [answers.get_nowait() for _ in BATCHES]
    assert answers.empty()
    assert [error for _, error in got if error is not None] == []
    check([result for result, _ in got], alone)
    assert all(result.get_response().parameters["triton_final_response"].bool_param for result, _ in got)


def test_an_error_in_a_stream_concerns_its_request_alone(served: Service, alone: list[Any]) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for number, batch in enumerate(BATCHES):
            model = "nothing" if number % 4 == 3 else "linear"
            yield {"model_name": model, "inputs": [rows(batch)], "request_id": str(number)}

    async def stream() -> list[tuple[Any, Any]]:
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{served.grpc_port}") as client:
            return [answer async for answer in client.stream_infer(requests())]

    got = asyncio.run(stream())
    assert len(got) == len(BATCHES)
    for number, (result, error) in enumerate(got):
        if number % 4 == 3:
            assert "Request for unknown model: 'nothing'" in error.message()
        else:
            np.testing.assert_allclose(result.as_numpy("logits"), alone[number], rtol=1e-5, atol=1e-6)


def test_a_stream_that_is_cut_off_costs_nothing(served: Service) -> None:
    with triton.InferenceServerClient(f"127.0.0.1:{served.grpc_port}") as client:
        client.start_stream(lambda result, error: None)
        for _ in range(20):
            client.async_stream_infer("linear", [rows(np.ones((1000, 16), np.float32))])
        client.stop_stream(cancel_requests=True)
        assert client.infer("linear", [rows()])
    assert "Traceback" not in served.processes["serve"].log.read_text()


# What it has in memory, and has answered


def test_the_index_lists_every_variant(client: Any) -> None:
    index = client.get_model_repository_index()
    assert [(row.name, row.version, row.state) for row in index.models] == [
        ("linear", "1", "READY"),
        ("model", "1", "READY"),
        ("model", "2", "READY"),
        ("types", "1", "READY"),
    ]


def test_models_are_unloaded_and_loaded(client: Any) -> None:
    client.load_model("model")
    client.unload_model("model@int8")
    assert not client.is_model_ready("model", "int8")
    assert client.is_model_ready("model")
    states = {row.version: row.state for row in client.get_model_repository_index().models if row.name == "model"}
    assert states == {"1": "READY", "2": "UNAVAILABLE"}
    client.unload_model("model", unload_dependents=True)
    assert not client.is_model_ready("model")
    client.load_model("model@int8")
    assert client.is_model_ready("model", "int8")
    client.load_model("model")
    assert client.infer("model", [image()]).as_numpy("logits").shape == (2, 4)
    refused(NOT_FOUND, "failed to load 'nothing'", lambda: client.load_model("nothing"))
    refused(NOT_FOUND, "failed to unload 'nothing'", lambda: client.unload_model("nothing"))
    refused(NOT_OFFERED, "'config' is not offered", lambda: client.load_model("model", config="{}"))
    files = {"file:1/model.onnx": b"onnx"}
    refused(NOT_OFFERED, "is not offered", lambda: client.load_model("model", config="{}", files=files))


def test_statistics_add_up(client: Any) -> None:
    def tally(**which: str) -> Any:
        (found,) = client.get_inference_statistics(**which).model_stats
        return found

    before = tally(model_name="model", model_version="2")
    for count in (1, 2):
        client.infer("model", [image(count)], model_version="int8")
    after = tally(model_name="model", model_version="int8")
    assert after.version == "2"
    assert after.inference_count == before.inference_count + 3
    for name in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        counts = (getattr(each.inference_stats, name).count for each in (after, before))
        assert next(counts) == next(counts) + 2
    assert sum(batch.compute_infer.count for batch in after.batch_stats) == after.execution_count
    assert sorted(row.version for row in client.get_inference_statistics("model").model_stats) == ["1", "2"]
    everything = client.get_inference_statistics().model_stats
    assert {row.name for row in everything} == {"linear", "model", "types"}


def test_settings_are_read_and_kept(client: Any) -> None:
    settings = client.get_log_settings()
    assert settings.settings["log_info"].bool_param is True
    kept = {"log_info": True, "log_verbose_level": 0, "log_format": "default", "log_file": None}
    assert client.update_log_settings(kept) == settings
    refused(NOT_OFFERED, "is fixed when", lambda: client.update_log_settings({"log_verbose_level": 3}))
    for name in (None, "linear"):
        trace = client.get_trace_settings(name)
        assert list(trace.settings["trace_level"].value) == ["OFF"]
        kept = {"trace_level": ["OFF"], "trace_count": "-1", "trace_rate": None}
        assert client.update_trace_settings(name, kept) == trace
    refused(NOT_OFFERED, "is fixed", lambda: client.update_trace_settings("linear", {"trace_level": ["TIMESTAMPS"]}))
    refused(NOT_FOUND, "unknown model", lambda: client.get_trace_settings("nothing"))


# What it refuses


def test_errors_are_read(client: Any) -> None:
    def infer(*inputs: triton.InferInput, model: str = "linear", **options: Any) -> Callable[[], Any]:
        return lambda: client.infer(model, list(inputs), **options)

    refused(NOT_FOUND, "Request for unknown model", lambda: client.get_model_metadata("nothing"))
    refused(NOT_FOUND, "Request for unknown model", lambda: client.get_model_config("nothing"))
    refused(NOT_FOUND, "Request for unknown model", lambda: client.get_inference_statistics("nothing"))
    refused(NOT_FOUND, "Request for unknown model", infer(rows(), model="nothing"))
    refused(NOT_FOUND, "has no variant '9'", infer(rows(), model_version="9"))
    refused(WRONG, "unexpected inference input 'image'", infer(image()))
    refused(WRONG, "is given twice", infer(rows(), rows()))
    refused(WRONG, "unexpected shape", infer(rows(ROWS[:, :4])))
    refused(WRONG, "unexpected datatype FP64", infer(tensor("x", ROWS.astype(np.float64), "FP64")))
    refused(WRONG, "unexpected inference output 'z'", infer(rows(), outputs=[output("z")]))
    refused(WRONG, "neither 'contents' nor", infer(triton.InferInput("x", [2, 16], "FP32")))


def test_shared_memory_is_not_offered(client: Any) -> None:
    for call in (
        client.get_system_shared_memory_status,
        client.get_cuda_shared_memory_status,
        lambda: client.register_system_shared_memory("r", "/r", 64),
        lambda: client.register_cuda_shared_memory("r", b"aGFuZGxl", 0, 64),
        client.unregister_system_shared_memory,
        lambda: client.unregister_cuda_shared_memory("r"),
    ):
        refused(NOT_OFFERED, "shared memory is not offered", call)
    shared = triton.InferInput("x", [2, 16], "FP32")
    shared.set_shared_memory("r", 128)
    refused(NOT_OFFERED, "shared memory", lambda: client.infer("linear", [shared]))
    into = output("logits")
    into.set_shared_memory("r", 128)
    refused(NOT_OFFERED, "shared memory", lambda: client.infer("linear", [rows()], outputs=[into]))


def test_a_client_that_does_not_wait_is_told_so(client: Any) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer("linear", [rows(np.zeros((400_000, 16), np.float32))], client_timeout=0.001)
    assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"
    refused("StatusCode.UNAVAILABLE", "Request timeout expired", lambda: client.infer("linear", [rows()], timeout=1))
    assert client.infer("linear", [rows()], client_timeout=30)


def test_another_service_on_the_same_port_says_which_setting_to_change(served: Service) -> None:
    second = Service(served.home.parent / "second", {"OCTET_GRPC_PORT": str(served.grpc_port)})
    with pytest.raises(AssertionError, match="--grpc-port or OCTET_GRPC_PORT"):
        second.start()
    second.stop()
    assert served.is_ready()


@pytest.mark.parametrize(
    "options", [[], *(pytest.param([option], marks=pytest.mark.slow) for option in ("-a", "--streaming"))], ids=str
)
def test_perf_analyzer_measures_without_an_error(served: Service, options: list[str]) -> None:
    perf_analyzer_measures("grpc", served.grpc_port, options)


def test_the_end_of_a_service_ends_its_streams(tmp_path: Path) -> None:
    """What streams have asked for is answered before."""
    service = Service(tmp_path / "home", {"OCTET_GRPC_PORT": str(free_port())})
    service.start()
    told: queue.Queue[Any] = queue.Queue()
    try:
        service.upload_model(graphs.linear_classifier().SerializeToString(), name="linear")
        with triton.InferenceServerClient(f"127.0.0.1:{service.grpc_port}") as client:
            client.start_stream(lambda result, error: told.put((result, error)))
            client.async_stream_infer("linear", [rows()])
            result, error = told.get(timeout=30)
            assert error is None
            assert result.as_numpy("logits").shape == (2, 4)
            assert service.processes["serve"].end() == 0
            _, error = told.get(timeout=30)
        assert (error.status(), "is shutting down" in error.message()) == ("StatusCode.UNAVAILABLE", True)
        assert "Traceback" not in service.processes["serve"].log.read_text()
    finally:
        service.stop()
