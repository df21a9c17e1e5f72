"""Every field of the protocol wrong in turn: the status, and words of the sentence that the client gets."""

import gzip
import json
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.engines.engine import NUMPY_TYPES
from app.main import create_app
from app.settings import Settings
from tests import graphs, registries
from tests.app.conftest import onnx_bytes, upload_model

LARGEST = 1024**2
LENGTH = "Inference-Header-Content-Length"
X = np.linspace(-1, 1, 32, dtype=np.float32).reshape(2, 16)
GOOD: dict[str, Any] = {"name": "x", "shape": [2, 16], "datatype": "FP32", "data": X.ravel().tolist()}
ABSENT = object()
#: An input for each of `types`, of no elements, since FP16 has no JSON form.
TYPED = [
    {
        "name": f"in_{name.lower()}",
        "shape": [0],
        "datatype": name,
        **({"parameters": {"binary_data_size": 0}} if name == "FP16" else {"data": []}),
    }
    for name in NUMPY_TYPES
]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """`linear`: x FP32[-1,16]; `types`: an input of each datatype; `tokens`: ids and mask INT64[-1,-1]."""
    settings = Settings(home=tmp_path_factory.mktemp("wrong") / "home", max_inference_bytes=LARGEST, grpc_port=0)
    settings.make_folders()
    registries.migrate(settings.registry_url)
    with TestClient(create_app(settings), base_url="http://localhost", raise_server_exceptions=False) as client:
        assert upload_model(client).status_code == 201
        assert upload_model(client, onnx_bytes(graphs.all_datatypes()), name="types").status_code == 201
        assert upload_model(client, onnx_bytes(graphs.two_token_inputs()), name="tokens").status_code == 201
        yield client


@dataclass(frozen=True)
class Case:
    """A request that is wrong in one way, and what is said to it."""

    name: str
    words: str
    status: int = 400
    content: bytes = b""
    path: str = "/v2/models/linear/infer"
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)


def message(name: str, words: str, content: Any, status: int = 400, path: str = "/v2/models/linear/infer") -> Case:
    return Case(name, words, status, json.dumps(content).encode(), path)


def with_input(name: str, words: str, status: int = 400, /, **changes: Any) -> Case:
    tensor = {key: value for key, value in (GOOD | changes).items() if value is not ABSENT}
    return message(name, words, {"inputs": [tensor]}, status)


def with_type(name: str, words: str, datatype: str, values: Any, shape: Any = (1,)) -> Case:
    tensor = {"name": f"in_{datatype.lower()}", "shape": list(shape), "datatype": datatype, "data": values}
    return message(name, words, {"inputs": [tensor]}, path="/v2/models/types/infer")


def with_request(name: str, words: str, status: int = 400, /, **changes: Any) -> Case:
    return message(name, words, {"inputs": [GOOD]} | changes, status)


def with_parameter(name: str, words: str, /, **parameters: Any) -> Case:
    return with_request(name, words, parameters=parameters)


def with_output(name: str, words: str, status: int = 400, /, **parameters: Any) -> Case:
    return with_request(name, words, status, outputs=[{"name": "logits", "parameters": parameters}])


def binary(
    name: str, words: str, blob: bytes = X.tobytes(), size: Any = X.nbytes, length: str | None = None, **changes: Any
) -> Case:
    tensor = GOOD | {"parameters": {"binary_data_size": size}} | changes
    tensor = {key: value for key, value in tensor.items() if key != "data" or "data" in changes}
    header = json.dumps({"inputs": [tensor]}).encode()
    return Case(name, words, content=header + blob, headers={LENGTH: length or str(len(header))})


def packed(name: str, words: str, content: bytes, encoding: str, status: int = 400) -> Case:
    return Case(name, words, status, content, headers={"Content-Encoding": encoding})


def length(value: str, words: str) -> Case:
    return Case(f"header length {value!r}", words, content=b'{"inputs":[]}', headers={LENGTH: value})


def elsewhere(name: str, words: str, status: int, path: str, method: str = "GET", content: bytes = b"") -> Case:
    return Case(name, words, status, content, path, method)


def deep(levels: int) -> bytes:
    return b'{"inputs":' + b"[" * levels + b"]" * levels + b"}"


ENOUGH = json.dumps({"inputs": [GOOD]}).encode()
KEYS = b'{"inputs":[],"parameters":{' + b",".join(b'"k%d":0' % number for number in range(60_000)) + b"}}"

CASES = [
    # The JSON
    Case("no body", "failed to parse the request JSON"),
    Case("no JSON", "failed to parse the request JSON", content=b"inputs"),
    Case("JSON cut off", "failed to parse the request JSON", content=ENOUGH[:-1]),
    Case("two objects", "failed to parse the request JSON", content=ENOUGH * 2),
    Case("JSON in UTF-16", "failed to parse the request JSON", content=ENOUGH.decode().encode("utf-16")),
    Case("NaN in JSON", "failed to parse the request JSON", content=ENOUGH.replace(b"-1.0", b"NaN")),
    message("a list", "must be a JSON object", []),
    message("null", "must be a JSON object", None),
    message("a string", "must be a JSON object", "inputs"),
    Case("too deep", "nested deeper than 100", content=deep(101)),
    Case("far too deep", "depth limit", content=deep(100_000)),
    with_input("data too deep", "nested too deeply", data=json.loads("[" * 60 + "1" + "]" * 60)),
    Case("too many keys", "more than 10000 keys", content=KEYS),
    # The request
    message("no inputs", "'inputs' must be a non-empty list", {}),
    message("empty inputs", "'inputs' must be a non-empty list", {"inputs": []}),
    message("inputs an object", "'inputs' must be a non-empty list", {"inputs": {"x": GOOD}}),
    message("inputs null", "'inputs' must be a non-empty list", {"inputs": None}),
    message("an input that is a number", "each of 'inputs' must be an object", {"inputs": [1]}),
    message("the same input twice", "'x' is given twice", {"inputs": [GOOD, GOOD]}),
    with_request("id a number", "'id' must be a string", id=7),
    with_request("id a list", "'id' must be a string", id=["7"]),
    with_request("parameters a list", "'parameters' of the request must be an object", parameters=[]),
    with_request("parameters null", "'parameters' of the request must be an object", parameters=None),
    with_request("outputs an object", "'outputs' must be a list", outputs={"name": "logits"}),
    with_request("outputs null", "'outputs' must be a list", outputs=None),
    # Parameters
    with_parameter(
        "a reserved parameter", "'triton_enable_empty_final_response': names", triton_enable_empty_final_response=True
    ),
    with_parameter("a flag that is a word", "'binary_data_output' must be true or false", binary_data_output="yes"),
    with_parameter("a flag that is a number", "'binary_data_output' must be true or false", binary_data_output=1),
    with_parameter("a negative priority", "'priority' must be a non-negative integer", priority=-1),
    with_parameter("a priority in words", "'priority' must be a non-negative integer", priority="high"),
    with_parameter("a priority that is true", "'priority' must be a non-negative integer", priority=True),
    with_parameter("no priority", "'priority' must be a non-negative integer", priority=None),
    with_parameter("a negative timeout", "'timeout' must be a non-negative integer", timeout=-5),
    with_parameter("a timeout with a fraction", "'timeout' must be a non-negative integer", timeout=0.5),
    with_parameter("a timeout beyond 64 bits", "'timeout' must be a non-negative integer", timeout=2**64),
    with_parameter("a negative sequence", "'sequence_id' must be", sequence_id=-1),
    with_parameter("a sequence that is a list", "'sequence_id' must be", sequence_id=[1]),
    with_parameter(
        "a start that is a number", "'sequence_start' must be true or false", sequence_id=1, sequence_start=1
    ),
    with_parameter("an end in words", "'sequence_end' must be true or false", sequence_id=1, sequence_end="no"),
    with_parameter("an object for a parameter", "parameter 'mine' must be a string, a number", mine={}),
    # An input
    with_input("no name", "must be an object with a 'name'", name=ABSENT),
    with_input("name a number", "must be an object with a 'name'", name=1),
    with_input("unknown name", "unexpected inference input 'y'", name="y"),
    with_input("no shape", "'shape' must be a list", shape=ABSENT),
    with_input("shape null", "'shape' must be a list", shape=None),
    with_input("shape a number", "'shape' must be a list", shape=32),
    with_input("shape of text", "'shape' must be a list", shape=["2", "16"]),
    with_input("shape of fractions", "'shape' must be a list", shape=[2.0, 16.0]),
    with_input("shape of booleans", "'shape' must be a list", shape=[True, 16]),
    with_input("negative shape", "non-negative integers", shape=[-1, 16]),
    with_input("two negatives", "non-negative integers", shape=[-2, -16]),
    with_input("huge shape", "is too large", shape=[2**62, 2**62]),
    with_input("huge shape with a zero", "is too large", shape=[2**62, 0]),
    with_input("shape beyond 64 bits", "'shape' must be a list", shape=[2**70, 16]),
    with_input("a large shape without values", "unexpected size", shape=[2**30, 16]),
    with_input("too many axes", "is too large", shape=[1] * 33),
    with_input("wrong rank", "expecting [-1, 16]", shape=[32]),
    with_input("wrong axis", "expecting [-1, 16]", shape=[4, 8]),
    with_input("no datatype", "unknown datatype", datatype=ABSENT),
    with_input("datatype a number", "unknown datatype", datatype=32),
    with_input("unknown datatype", "unknown datatype 'FLOAT'", datatype="FLOAT"),
    with_input("datatype in lower case", "unknown datatype 'fp32'", datatype="fp32"),
    with_input("another datatype", "unexpected datatype FP64 for inference input 'x', expecting FP32", datatype="FP64"),
    with_input("FP16 in JSON", "FP16 has no JSON form", datatype="FP16"),
    with_input("BF16 in JSON", "BF16 has no JSON form", datatype="BF16"),
    with_input("no data", "neither 'data' nor 'binary_data_size'", data=ABSENT),
    with_input("data a number", "'data' must be a list", data=1.0),
    with_input("data an object", "'data' must be a list", data={"0": 1.0}),
    with_input("data null", "'data' must be a list", data=None),
    with_input("too few values", "unexpected size: 31 elements", data=GOOD["data"][1:]),
    with_input("too many values", "unexpected size: 33 elements", data=[*GOOD["data"], 1.0]),
    with_input("no values", "unexpected size: 0 elements", data=[]),
    with_input("text for numbers", "is not a FP32", data=["1"] * 32),
    with_input("null for a number", "is not a FP32", data=[None] * 32),
    with_input("booleans for numbers", "is not a FP32", data=[True] * 32),
    with_input("an object for a number", "is not a FP32", data=[{}] * 32),
    with_input("parameters of an input a list", "'parameters' of input 'x' must be an object", parameters=[]),
    with_input("a reserved parameter of an input", "'triton_x'", parameters={"triton_x": 1}),
    with_input("shared memory", "shared memory", 501, data=ABSENT, parameters={"shared_memory_region": "r"}),
    with_type("true in numbers", "is not a BOOL", "BOOL", [1]),
    with_type("too small for INT8", "-128 to 127", "INT8", [-129]),
    with_type("too large for INT16", "-32768 to 32767", "INT16", [2**15]),
    with_type("too large for INT32", "2147483647", "INT32", [2**31]),
    with_type("too large for INT64", "9223372036854775807", "INT64", [2**63]),
    with_type("too large for UINT8", "0 to 255", "UINT8", [256]),
    with_type("negative for UINT16", "0 to 65535", "UINT16", [-1]),
    with_type("too large for UINT32", "0 to 4294967295", "UINT32", [2**32]),
    with_type("negative for UINT64", "0 to 18446744073709551615", "UINT64", [-1]),
    with_type("a fraction for an integer", "is not a INT32", "INT32", [1.5]),
    with_type("a number for BYTES", "must be strings", "BYTES", [1]),
    with_type("text for FP64", "is not a FP64", "FP64", ["1e3"]),
    message(
        "an input is missing",
        "'mask' is missing",
        {"inputs": [{"name": "ids", "shape": [1, 2], "datatype": "INT64", "data": [1, 2]}]},
        path="/v2/models/tokens/infer",
    ),
    # An output
    with_request("an output that is text", "each of 'outputs' must be an object", outputs=["logits"]),
    with_request("an output without a name", "each of 'outputs' must be an object", outputs=[{}]),
    with_request("an output whose name is a number", "each of 'outputs' must be an object", outputs=[{"name": 1}]),
    with_request("an unknown output", "unexpected inference output 'z'", outputs=[{"name": "z"}]),
    with_request("an output twice", "'logits' is asked for twice", outputs=[{"name": "logits"}] * 2),
    with_request(
        "parameters of an output", "'parameters' of output 'logits' must", outputs=[{"name": "logits", "parameters": 1}]
    ),
    with_output("binary_data in words", "'binary_data' must be true or false", binary_data="true"),
    with_output("negative classification", "'classification' must be a non-negative integer", classification=-1),
    with_output("classification in words", "'classification' must be a non-negative integer", classification="3"),
    with_output("classification of true", "'classification' must be a non-negative integer", classification=True),
    with_output("reserved parameter of an output", "'triton_y'", triton_y=1),
    with_output("an output into shared memory", "shared memory", 501, shared_memory_region="r"),
    message(
        "classification of text",
        "'out_bytes' is not numeric",
        {"inputs": TYPED, "outputs": [{"name": "out_bytes", "parameters": {"classification": 1}}]},
        path="/v2/models/types/infer",
    ),
    message(
        "an FP16 output in JSON",
        "'out_fp16' is FP16, which has no JSON form",
        {"inputs": TYPED, "outputs": [{"name": "out_fp16"}]},
        path="/v2/models/types/infer",
    ),
    # Binary tensors
    binary("a blob cut off", "unexpected size", blob=X.tobytes()[:-1]),
    binary("no blob", "unexpected size", blob=b""),
    binary("surplus bytes", "unexpected additional input data: 1 bytes", blob=X.tobytes() + b"x"),
    binary("a size below the shape's", "unexpected size: got 124 bytes", blob=X.tobytes()[:-4], size=124),
    binary("a size of zero", "unexpected size: got 0 bytes", blob=b"", size=0),
    binary("a negative size", "'binary_data_size' must be a non-negative", size=-1),
    binary("a size in words", "'binary_data_size' must be a non-negative", size="128"),
    binary("a size with a fraction", "'binary_data_size' must be a non-negative", size=128.0),
    binary("a size that is true", "'binary_data_size' must be a non-negative", size=True),
    binary("a huge size", "unexpected size", size=2**62),
    binary("data and a blob", "both 'data' and 'binary_data_size'", data=GOOD["data"]),
    binary("a huge shape of a blob", "is too large", shape=[2**40, 16]),
    binary("a large shape of a blob", "unexpected size: got 128 bytes", shape=[2**32, 16]),
    binary("BF16 of a wrong size", "unexpected size: got 128 bytes", datatype="BF16"),
    binary("BYTES for numbers", "unexpected size", datatype="BYTES"),
    binary("JSON cut by the header length", "failed to parse the request JSON", length="20"),
    binary("raw bytes of a wrong size", "unexpected size: got 2", length="0"),
    length("-1", "must be a non-negative integer"),
    length("+5", "must be a non-negative integer"),
    length("1e3", "must be a non-negative integer"),
    length("0x10", "must be a non-negative integer"),
    length("abc", "must be a non-negative integer"),
    length("14", "is 14, and the body has 13 bytes"),
    length("99999999999", "and the body has 13 bytes"),
    length("9" * 30, "must be a non-negative integer"),
    Case("raw bytes for two inputs", "a model of one input", path="/v2/models/tokens/infer", headers={LENGTH: "0"}),
    # Compression
    packed("not gzip", "the body is not gzip", ENOUGH, "gzip"),
    packed("not deflate", "the body is not deflate", ENOUGH, "deflate"),
    packed("gzip cut off", "cut off", gzip.compress(ENOUGH)[:-4], "gzip"),
    packed("gzip called deflate", "the body is not deflate", gzip.compress(ENOUGH), "deflate"),
    packed("a gzip bomb", "unpacks to more than", gzip.compress(bytes(64 * LARGEST)), "gzip", 413),
    packed("a deflate bomb", "unpacks to more than", zlib.compress(bytes(64 * LARGEST)), "deflate", 413),
    packed("brotli", "'br' is not offered", ENOUGH, "br", 501),
    packed("zstd", "'zstd' is not offered", ENOUGH, "zstd", 501),
    packed("gzip twice", "is not offered", ENOUGH, "gzip, gzip", 501),
    Case("a body over the limit", "larger than the 1048576 bytes", 413, b" " * (LARGEST + 1)),
    # Names and methods
    elsewhere("unknown model", "Request for unknown model: 'nothing'", 404, "/v2/models/nothing/infer", "POST", ENOUGH),
    elsewhere("unknown version", "has no variant '9'", 404, "/v2/models/linear/versions/9/infer", "POST", ENOUGH),
    elsewhere("unknown label", "has no variant 'int8'", 404, "/v2/models/linear@int8/infer", "POST", ENOUGH),
    elsewhere("label and version", "names a variant already", 400, "/v2/models/linear@original/versions/1"),
    elsewhere("a name that none can have", "Request for unknown model", 404, "/v2/models/%00"),
    elsewhere("metadata of nothing", "Request for unknown model", 404, "/v2/models/nothing"),
    elsewhere("readiness of nothing", "Request for unknown model", 404, "/v2/models/nothing/ready"),
    elsewhere("config of nothing", "Request for unknown model", 404, "/v2/models/nothing/config"),
    elsewhere("statistics of nothing", "Request for unknown model", 404, "/v2/models/nothing/stats"),
    elsewhere("statistics of no version", "has no variant '9'", 404, "/v2/models/linear/versions/9/stats"),
    elsewhere("infer by GET", "GET is not offered", 405, "/v2/models/linear/infer"),
    elsewhere("metadata by POST", "POST is not offered", 405, "/v2/models/linear", "POST"),
    elsewhere("index by GET", "GET is not offered", 405, "/v2/repository/index"),
    elsewhere("delete a model", "DELETE is not offered", 405, "/v2/models/linear", "DELETE"),
    elsewhere("no route", "there is nothing at", 404, "/v2/nowhere"),
    elsewhere("a slash too many", "there is nothing at", 404, "/v2/"),
    # Repository and settings
    elsewhere("load nothing", "failed to load 'nothing'", 404, "/v2/repository/models/nothing/load", "POST"),
    elsewhere("unload nothing", "failed to unload 'nothing'", 404, "/v2/repository/models/nothing/unload", "POST"),
    elsewhere("load by a list", "must be a JSON object", 400, "/v2/repository/models/linear/load", "POST", b"[]"),
    elsewhere(
        "load with a configuration",
        "'config' is not offered",
        501,
        "/v2/repository/models/linear/load",
        "POST",
        b'{"parameters":{"config":"{}"}}',
    ),
    elsewhere(
        "load with a file",
        "'file:1/model.onnx' is not offered",
        501,
        "/v2/repository/models/linear/load",
        "POST",
        b'{"parameters":{"file:1/model.onnx":"AA=="}}',
    ),
    elsewhere(
        "unload with a word",
        "'unload_dependents' must be",
        400,
        "/v2/repository/models/linear/unload",
        "POST",
        b'{"parameters":{"unload_dependents":"no"}}',
    ),
    elsewhere(
        "index of a word", "'ready' must be true or false", 400, "/v2/repository/index", "POST", b'{"ready":"yes"}'
    ),
    elsewhere("index with too much", "larger than", 413, "/v2/repository/index", "POST", b" " * 70_000),
    elsewhere("an unknown log setting", "unknown setting 'volume'", 400, "/v2/logging", "POST", b'{"volume":11}'),
    elsewhere("another log setting", "'log_info' is fixed", 501, "/v2/logging", "POST", b'{"log_info":false}'),
    elsewhere(
        "another trace", "'trace_level' is fixed", 501, "/v2/trace/setting", "POST", b'{"trace_level":["TIMESTAMPS"]}'
    ),
    elsewhere("trace of nothing", "Request for unknown model", 404, "/v2/models/nothing/trace/setting"),
    elsewhere("system shared memory", "shared memory is not offered", 501, "/v2/systemsharedmemory/status"),
    elsewhere(
        "CUDA shared memory",
        "shared memory is not offered",
        501,
        "/v2/cudasharedmemory/region/r/register",
        "POST",
        b"{}",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_what_is_wrong_is_said(client: TestClient, case: Case) -> None:
    started = time.perf_counter()
    answer = client.request(case.method, case.path, content=case.content, headers=case.headers)
    assert answer.status_code == case.status, answer.text
    assert list(answer.json()) == ["error"]
    assert case.words in answer.json()["error"]
    assert time.perf_counter() - started < 5


def test_the_table_is_of_different_cases_and_long_enough() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 80


def test_what_is_refused_leaves_the_model_as_it_was(client: TestClient) -> None:
    assert client.post("/v2/models/linear/infer", content=ENOUGH).status_code == 200


def test_an_encoding_that_is_not_offered_is_told_which_are(client: TestClient) -> None:
    answer = client.post("/v2/models/linear/infer", content=ENOUGH, headers={"Content-Encoding": "br"})
    assert answer.headers["Accept-Encoding"] == "gzip, deflate"
