"""Every field of the protocol wrong in turn: the status, and words of the sentence that the client gets."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import pytest
from fastapi.testclient import TestClient
from grpc import StatusCode

from app.inference.grpc.schema import METHODS, SERVICE
from app.main import create_app
from app.settings import Settings
from tests import graphs, registries
from tests.app.conftest import onnx_bytes, upload_model
from tests.servers import free_port

LARGEST = 1024**2
X = np.linspace(-1, 1, 32, dtype=np.float32).reshape(2, 16)
WRONG, NOT_FOUND, NOT_OFFERED = StatusCode.INVALID_ARGUMENT, StatusCode.NOT_FOUND, StatusCode.UNIMPLEMENTED


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    """`linear`: x FP32[-1,16]; `types`: an input of each datatype; `tokens`: ids and mask INT64[-1,-1]."""
    port = free_port()
    settings = Settings(home=tmp_path_factory.mktemp("wrong") / "home", max_inference_bytes=LARGEST, grpc_port=port)
    settings.make_folders()
    registries.migrate(settings.registry_url)
    with (
        TestClient(create_app(settings), base_url="http://localhost") as client,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        assert upload_model(client).status_code == 201
        assert upload_model(client, onnx_bytes(graphs.all_datatypes()), name="types").status_code == 201
        assert upload_model(client, onnx_bytes(graphs.two_token_inputs()), name="tokens").status_code == 201
        yield channel


@dataclass(frozen=True)
class Case:
    """A message that is wrong in one way, and what is said to it."""

    name: str
    words: str
    raw: bytes
    status: StatusCode = WRONG
    call: str = "ModelInfer"


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [2, 16], "datatype": "FP32"} | changes


def made(call: str, **fields: Any) -> bytes:
    message = METHODS[call].request(**fields)
    serialized: bytes = message.SerializeToString()
    return serialized


def request(name: str, words: str, status: StatusCode = WRONG, /, **changes: Any) -> Case:
    good = {"model_name": "linear", "inputs": [tensor()], "raw_input_contents": [X.tobytes()]}
    return Case(name, words, made("ModelInfer", **(good | changes)), status)


def raw(name: str, words: str, status: StatusCode = WRONG, /, blob: bytes = X.tobytes(), **changes: Any) -> Case:
    return request(name, words, status, inputs=[tensor(**changes)], raw_input_contents=[blob])


def typed(name: str, words: str, datatype: str, field: str, *values: Any) -> Case:
    contents = tensor(name=f"in_{datatype.lower()}", datatype=datatype, shape=[1], contents={field: values})
    return request(name, words, model_name="types", inputs=[contents], raw_input_contents=[])


def parameter(name: str, words: str, /, **parameters: dict[str, Any]) -> Case:
    return request(name, words, parameters=parameters)


def output(name: str, words: str, status: StatusCode = WRONG, /, **parameters: dict[str, Any]) -> Case:
    return request(name, words, status, outputs=[{"name": "logits", "parameters": parameters}])


def other(name: str, words: str, status: StatusCode, call: str, /, **fields: Any) -> Case:
    return Case(name, words, made(call, **fields), status, call)


ENOUGH = made("ModelInfer", model_name="linear", inputs=[tensor()], raw_input_contents=[X.tobytes()])

CASES = [
    # The message
    Case("nothing at all", "'' is not registered", b"", NOT_FOUND),
    Case("no protobuf", "failed to parse the request", b"\xff" * 20),
    Case("cut off", "failed to parse the request", ENOUGH[:-1]),
    Case("a field of another type", "failed to parse the request", b"\x0a\xff\xff\xff\xff\x0f"),
    Case("text that is not UTF-8", "failed to parse the request", b"\x0a\x02\xc3\x28"),
    Case("JSON", "failed to parse the request", b'{"model_name": "linear"}'),
    Case("over the limit", "larger than max", ENOUGH + bytes(LARGEST), StatusCode.RESOURCE_EXHAUSTED),
    # The request
    request("unknown model", "Request for unknown model: 'nothing'", NOT_FOUND, model_name="nothing"),
    request("unknown version", "has no variant '9'", NOT_FOUND, model_version="9"),
    request("unknown label", "has no variant 'int8'", NOT_FOUND, model_name="linear@int8"),
    request("label and version", "names a variant already", model_name="linear@original", model_version="1"),
    request("a name that none can have", "Request for unknown model", NOT_FOUND, model_name="\0"),
    request("a long name", "Request for unknown model", NOT_FOUND, model_name="ß" * 50_000),
    request("no inputs", "'inputs' must hold at least one tensor", inputs=[], raw_input_contents=[]),
    request("the same input twice", "'x' is given twice", inputs=[tensor()] * 2, raw_input_contents=[X.tobytes()] * 2),
    request("an input is missing", "'mask' is missing", model_name="tokens", raw_input_contents=[bytes(16)],
            inputs=[tensor(name="ids", shape=[1, 2], datatype="INT64")]),
    request("a blob too many", "2 raw_input_contents for 1 inputs", raw_input_contents=[X.tobytes()] * 2),
    request("a blob too few", "1 raw_input_contents for 2 inputs", inputs=[tensor(), tensor(name="y")]),
    request("neither raw nor typed", "neither 'contents' nor", raw_input_contents=[]),
    request("raw and typed", "'contents' while 'raw_input_contents' is used",
            inputs=[tensor(contents={"fp32_contents": X.ravel()})]),
    # Parameters
    parameter("a reserved parameter", "'triton_x': names that begin", triton_x={"int64_param": 1}),
    parameter("no value", "parameter 'mine' has no value", mine={}),
    parameter("a negative priority", "'priority' must be a non-negative integer", priority={"int64_param": -1}),
    parameter("a priority in words", "'priority' must be a non-negative integer", priority={"string_param": "1"}),
    parameter("a priority that is true", "'priority' must be a non-negative integer", priority={"bool_param": True}),
    parameter("a timeout with a fraction", "'timeout' must be a non-negative integer", timeout={"double_param": 0.5}),
    parameter("a negative timeout", "'timeout' must be a non-negative integer", timeout={"int64_param": -5}),
    parameter("a negative sequence", "'sequence_id' must be", sequence_id={"int64_param": -1}),
    parameter("a sequence with a fraction", "'sequence_id' must be", sequence_id={"double_param": 1.5}),
    parameter("a start that is a number", "'sequence_start' must be true or false", sequence_start={"int64_param": 1}),
    parameter("an end in words", "'sequence_end' must be true or false", sequence_end={"string_param": "no"}),
    # An input
    raw("no name", "unexpected inference input ''", name=""),
    raw("unknown name", "unexpected inference input 'y'", name="y"),
    raw("no shape", "unexpected size", shape=[]),
    raw("negative shape", "non-negative integers", shape=[-1, 16]),
    raw("two negatives", "non-negative integers", shape=[-2, -16]),
    raw("huge shape", "is too large", shape=[2**62, 2**62]),
    raw("huge shape with a zero", "is too large", shape=[2**62, 0]),
    raw("a large shape without values", "unexpected size: got 128 bytes", shape=[2**30, 16]),
    raw("too many axes", "is too large", shape=[1] * 33),
    raw("wrong rank", "expecting [-1, 16]", shape=[32]),
    raw("wrong axis", "expecting [-1, 16]", shape=[4, 8]),
    raw("no datatype", "unknown datatype ''", datatype=""),
    raw("unknown datatype", "unknown datatype 'FLOAT'", datatype="FLOAT"),
    raw("datatype in lower case", "unknown datatype 'fp32'", datatype="fp32"),
    raw("another datatype", "unexpected datatype INT32 for inference input 'x', expecting FP32", datatype="INT32"),
    raw("too few bytes", "unexpected size: got 127 bytes", blob=X.tobytes()[:-1]),
    raw("too many bytes", "unexpected size: got 129 bytes", blob=X.tobytes() + b"x"),
    raw("no bytes", "unexpected size: got 0 bytes", blob=b""),
    raw("BF16 of a wrong size", "unexpected size: got 128 bytes", datatype="BF16"),
    raw("BYTES for numbers", "unexpected size", datatype="BYTES"),
    raw("a reserved parameter of an input", "'triton_x'", parameters={"triton_x": {"int64_param": 1}}),
    raw("a parameter of an input without value", "parameter 'p' has no value", parameters={"p": {}}),
    raw("shared memory", "shared memory", NOT_OFFERED, parameters={"shared_memory_region": {"string_param": "r"}}),
    typed("too few values", "unexpected size: 0 elements", "FP32", "fp32_contents"),
    typed("too many values", "unexpected size: 2 elements", "FP32", "fp32_contents", 1.0, 2.0),
    typed("doubles for FP32", "FP32 is sent in 'fp32_contents', not in 'fp64_contents'", "FP32", "fp64_contents", 1.0),
    typed("signed for unsigned", "UINT8 is sent in 'uint_contents', not in 'int_contents'", "UINT8", "int_contents", 1),
    typed("32 bits for 64", "INT64 is sent in 'int64_contents'", "INT64", "int_contents", 1),
    typed("typed FP16", "FP16 has no typed contents", "FP16", "fp32_contents", 1.0),
    typed("typed BF16", "BF16 has no typed contents", "BF16", "fp32_contents", 1.0),
    typed("too small for INT8", "-128 to 127", "INT8", "int_contents", -129),
    typed("too large for INT16", "-32768 to 32767", "INT16", "int_contents", 2**15),
    typed("too large for UINT8", "0 to 255", "UINT8", "uint_contents", 256),
    typed("too large for UINT16", "0 to 65535", "UINT16", "uint_contents", 2**16),
    # An output
    request("an unknown output", "unexpected inference output 'z'", outputs=[{"name": "z"}]),
    request("an output without a name", "unexpected inference output ''", outputs=[{}]),
    request("an output twice", "'logits' is asked for twice", outputs=[{"name": "logits"}] * 2),
    output("negative classification", "'classification' must be a non-negative", classification={"int64_param": -1}),
    output("classification in words", "'classification' must be a non-negative", classification={"string_param": "3"}),
    output("reserved parameter of an output", "'triton_y'", triton_y={"int64_param": 1}),
    output("an output into shared memory", "shared memory", NOT_OFFERED, shared_memory_region={"string_param": "r"}),
    # Other calls
    other("metadata of nothing", "Request for unknown model", NOT_FOUND, "ModelMetadata", name="nothing"),
    other("metadata of no name", "Request for unknown model", NOT_FOUND, "ModelMetadata"),
    other("metadata, label and version", "already", WRONG, "ModelMetadata", name="linear@original", version="1"),
    other("readiness, label and version", "already", WRONG, "ModelReady", name="linear@original", version="1"),
    other("config of nothing", "Request for unknown model", NOT_FOUND, "ModelConfig", name="nothing"),
    other("statistics of no version", "has no variant '9'", NOT_FOUND, "ModelStatistics", name="linear", version="9"),
    other("load nothing", "failed to load 'nothing'", NOT_FOUND, "RepositoryModelLoad", model_name="nothing"),
    other("load with a configuration", "'config' is not offered", NOT_OFFERED, "RepositoryModelLoad",
          model_name="linear", parameters={"config": {"string_param": "{}"}}),
    other("load with a file", "'file:1/m' is not offered", NOT_OFFERED, "RepositoryModelLoad",
          model_name="linear", parameters={"file:1/m": {"bytes_param": b"1"}}),
    other("unload nothing", "failed to unload 'nothing'", NOT_FOUND, "RepositoryModelUnload", model_name="nothing"),
    other("unload with a word", "'unload_dependents' must be", WRONG, "RepositoryModelUnload",
          model_name="linear", parameters={"unload_dependents": {"string_param": "yes"}}),
    other("unknown log setting", "unknown setting 'log_color'", WRONG, "LogSettings",
          settings={"log_color": {"bool_param": True}}),
    other("another log setting", "is fixed when the server starts", NOT_OFFERED, "LogSettings",
          settings={"log_verbose_level": {"uint32_param": 9}}),
    other("unknown trace setting", "unknown setting 'trace_color'", WRONG, "TraceSetting",
          settings={"trace_color": {"value": ["red"]}}),
    other("two values for one", "is fixed when the server starts", NOT_OFFERED, "TraceSetting",
          settings={"trace_rate": {"value": ["1000", "1000"]}}),
    other("traces of nothing", "Request for unknown model", NOT_FOUND, "TraceSetting", model_name="nothing"),
    Case("settings that are no protobuf", "failed to parse the request", b"\xff", call="LogSettings"),
    Case("shared memory's own calls", "shared memory is not offered", b"", NOT_OFFERED, "SystemSharedMemoryStatus"),
    Case("a call that there is not", "Method not found", b"", NOT_OFFERED, "ModelTrain"),
]  # fmt: skip


def ask(channel: grpc.Channel, call: str, message: bytes, **options: Any) -> bytes:
    answer: bytes = channel.unary_unary(f"/{SERVICE}/{call}")(message, timeout=30, **options)
    return answer


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_wrong_is_said_and_others_are_answered(channel: grpc.Channel, case: Case) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        ask(channel, case.call, case.raw)
    assert caught.value.code() == case.status, caught.value.details()
    assert case.words in caught.value.details()
    assert len(caught.value.details()) <= 1000
    answer = METHODS["ModelInfer"].response.FromString(ask(channel, "ModelInfer", ENOUGH))
    assert list(answer.outputs[0].shape) == [2, 4]


@pytest.mark.parametrize("case", [case for case in CASES if case.call == "ModelInfer" and len(case.raw) < LARGEST],
                         ids=lambda case: case.name)  # fmt: skip
def test_in_a_stream_it_is_said_too_and_the_next_is_answered(channel: grpc.Channel, case: Case) -> None:
    stream = channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")(iter([case.raw, ENOUGH]), timeout=30)
    wrong, right = map(METHODS["ModelStreamInfer"].response.FromString, stream)
    assert case.words in wrong.error_message
    assert not wrong.infer_response.outputs
    assert right.error_message == ""
    assert list(right.infer_response.outputs[0].shape) == [2, 4]


@pytest.mark.parametrize("packing", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_bomb_is_not_unpacked_beyond_the_limit(channel: grpc.Channel, packing: grpc.Compression) -> None:
    with pytest.raises(grpc.RpcError, match="Decompressed message larger than max") as caught:
        ask(channel, "ModelInfer", ENOUGH + bytes(64 * LARGEST), compression=packing)
    assert caught.value.code() == StatusCode.RESOURCE_EXHAUSTED
    assert ask(channel, "ModelInfer", ENOUGH, compression=packing)
