"""The protocol over HTTP; `tests/e2e` has the same by clients that we did not write."""

import json
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from httpx import Response

from tests import graphs
from tests.app.conftest import onnx_bytes, upload_model

X = np.linspace(-1, 1, 32, dtype=np.float32).reshape(2, 16)


@pytest.fixture(autouse=True)
def model(client: TestClient) -> None:
    upload_model(client, labels='["cat", "dog", "eel", "fox"]')


def infer(
    client: TestClient, message: dict[str, Any], *blobs: bytes, path: str = "/v2/models/linear/infer"
) -> Response:
    header = json.dumps(message).encode()
    headers = {"Inference-Header-Content-Length": str(len(header))} if blobs else {}
    return client.post(path, content=header + b"".join(blobs), headers=headers)


def json_input(**changes: Any) -> dict[str, Any]:
    tensor = {"name": "x", "shape": [2, 16], "datatype": "FP32", "data": X.ravel().tolist()} | changes
    return {"inputs": [{key: value for key, value in tensor.items() if value is not None}]}


def binary_input(size: int = X.nbytes, **changes: Any) -> dict[str, Any]:
    return json_input(data=None, parameters={"binary_data_size": size}, **changes)


def test_json_nested_and_flat_and_binary_give_the_same_answer(client: TestClient) -> None:
    flat = infer(client, json_input() | {"id": "7"})
    nested = infer(client, json_input(data=X.tolist()))
    binary = infer(client, binary_input(), X.tobytes())
    assert flat.status_code == nested.status_code == binary.status_code == 200
    answer = flat.json()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("linear", "1", "7")
    assert answer["parameters"]["variant"] == "original"
    assert flat.headers["X-Model-Variant"] == "original"
    assert answer["outputs"][0]["shape"] == [2, 4]
    assert answer["outputs"][0]["data"] == nested.json()["outputs"][0]["data"] == binary.json()["outputs"][0]["data"]


def test_binary_outputs_follow_the_json(client: TestClient) -> None:
    expected = infer(client, json_input()).json()["outputs"][0]["data"]
    for asked in (
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "logits", "parameters": {"binary_data": True}}]},
        {"parameters": {"binary_data_output": True}, "outputs": [{"name": "logits"}]},
    ):
        answer = infer(client, binary_input() | asked, X.tobytes())
        assert answer.headers["Content-Type"] == "application/octet-stream"
        length = int(answer.headers["Inference-Header-Content-Length"])
        output = json.loads(answer.content[:length])["outputs"][0]
        assert output["parameters"] == {"binary_data_size": 32}
        np.testing.assert_allclose(np.frombuffer(answer.content[length:], np.float32), expected, rtol=1e-6)


def test_an_output_may_overrule_the_default_form(client: TestClient) -> None:
    asked = {
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "logits", "parameters": {"binary_data": False}}],
    }
    assert "data" in infer(client, json_input() | asked).json()["outputs"][0]


def test_classification_names_the_classes(client: TestClient) -> None:
    asked = {"outputs": [{"name": "logits", "parameters": {"classification": 2}}]}
    output = infer(client, json_input() | asked).json()["outputs"][0]
    assert output["datatype"] == "BYTES"
    assert output["shape"] == [2, 2]
    logits = np.array(infer(client, json_input()).json()["outputs"][0]["data"]).reshape(2, 4)
    value, index, label = output["data"][0].split(":")
    assert int(index) == logits[0].argmax()
    assert label == ["cat", "dog", "eel", "fox"][int(index)]
    assert float(value) == pytest.approx(logits[0].max(), abs=1e-5)


def test_a_raw_binary_request_is_the_one_input(client: TestClient) -> None:
    answer = client.post(
        "/v2/models/linear/infer", content=X[:1].tobytes(), headers={"Inference-Header-Content-Length": "0"}
    )
    length = int(answer.headers["Inference-Header-Content-Length"])
    expected = infer(client, json_input()).json()["outputs"][0]["data"][:4]
    np.testing.assert_allclose(np.frombuffer(answer.content[length:], np.float32), expected, rtol=1e-6)


def test_every_datatype_passes_through_unchanged(client: TestClient) -> None:
    upload_model(client, onnx_bytes(graphs.all_datatypes()), name="types")
    arrays = {
        "bool": np.array([True, False]),
        **{name: np.array([0, np.iinfo(name).max], name) for name in ("uint8", "uint16", "uint32", "uint64")},
        **{name: np.array([np.iinfo(name).min, 7], name) for name in ("int8", "int16", "int32", "int64")},
        "fp16": np.array([0.5, -65504], np.float16),
        "fp32": np.array([0.1, -1e30], np.float32),
        "fp64": np.array([0.1, 1e300], np.float64),
    }
    inputs = [
        {
            "name": f"in_{name}",
            "shape": [2],
            "datatype": name.upper(),
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in arrays.items()
    ]
    inputs.append({"name": "in_bytes", "shape": [2], "datatype": "BYTES", "data": ["Straße", ""]})
    asked = {"parameters": {"binary_data_output": True}}
    answer = infer(
        client,
        {"inputs": inputs, **asked},
        *(array.tobytes() for array in arrays.values()),
        path="/v2/models/types/infer",
    )
    assert answer.status_code == 200, answer.text
    length = int(answer.headers["Inference-Header-Content-Length"])
    rest = answer.content[length:]
    for output in json.loads(answer.content[:length])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        raw, rest = rest[:size], rest[size:]
        if output["datatype"] == "BYTES":
            assert raw == b"\x07\x00\x00\x00" + "Straße".encode() + b"\x00\x00\x00\x00"
        else:
            assert raw == arrays[output["name"].removeprefix("out_")].tobytes(), output["name"]
    assert rest == b""


def test_a_variant_is_named_in_three_ways(client: TestClient) -> None:
    upload_model(client, onnx_bytes(graphs.linear_classifier(seed=5)))
    for path, version in (
        ("/v2/models/linear/infer", "1"),
        ("/v2/models/linear/versions/1/infer", "1"),
        ("/v2/models/linear/versions/2/infer", "2"),
        ("/v2/models/linear/versions/original/infer", "2"),
        ("/v2/models/linear@original/infer", "2"),
        ("/v2/models/linear@1/infer", "1"),
        ("/v2/models/linear/infer?version=2", "1"),
    ):
        assert infer(client, json_input(), path=path).json()["model_version"] == version, path


def test_metadata_says_what_clients_need(client: TestClient) -> None:
    server = client.get("/v2").json()
    assert server["name"] == "octet"
    assert "binary_tensor_data" in server["extensions"]
    assert client.get("/v2/health/live").status_code == 200
    assert client.get("/v2/health/ready").status_code == 200
    assert client.get("/v2/models/linear").json() == {
        "name": "linear",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 16]}],
        "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, 4]}],
    }
    assert client.get("/v2/models/linear/versions/1/ready").status_code == 200
    config = client.get("/v2/models/linear/config").json()
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 16]}]
    index = client.post("/v2/repository/index").json()
    assert index == [{"name": "linear", "version": "1", "state": "READY", "reason": ""}]
    assert client.post("/v2/repository/index", content=b'{"ready": true}').json() == index


BAD = [
    ("no inputs", {"inputs": []}, "inputs"),
    ("inputs not a list", {"inputs": {}}, "inputs"),
    ("not an object", [], "object"),
    ("input without a name", {"inputs": [{}]}, "name"),
    ("unknown input", json_input(name="y"), "unexpected inference input 'y'"),
    ("input twice", {"inputs": json_input()["inputs"] * 2}, "twice"),
    ("wrong datatype", json_input(datatype="FP64"), "expecting FP32"),
    ("unknown datatype", json_input(datatype="FLOAT"), "unknown datatype"),
    ("no datatype", json_input(datatype=None), "datatype"),
    ("no shape", json_input(shape=None), "shape"),
    ("negative shape", json_input(shape=[-1, 16]), "non-negative"),
    ("wrong rank", json_input(shape=[32]), "expecting [-1, 16]"),
    ("wrong dimension", json_input(shape=[4, 8]), "expecting [-1, 16]"),
    ("huge shape", json_input(shape=[2**62, 2**62]), "too large"),
    ("too few values", json_input(data=[1.0]), "unexpected size"),
    ("no values", json_input(data=None), "neither"),
    ("text for numbers", json_input(data=["a"] * 32), "is not a FP32"),
    ("unknown output", json_input() | {"outputs": [{"name": "z"}]}, "unexpected inference output 'z'"),
    ("output twice", json_input() | {"outputs": [{"name": "logits"}] * 2}, "twice"),
    ("outputs not a list", json_input() | {"outputs": "logits"}, "list"),
    ("a number for id", json_input() | {"id": 7}, "'id'"),
    ("parameters not an object", json_input() | {"parameters": []}, ""),
    ("a reserved parameter", json_input() | {"parameters": {"triton_x": 1}}, "reserved"),
    ("a word for a flag", json_input() | {"parameters": {"binary_data_output": "yes"}}, "true or false"),
    ("negative top", json_input() | {"outputs": [{"name": "logits", "parameters": {"classification": -1}}]}, "class"),
]


@pytest.mark.parametrize(("message", "words"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_bad_message_is_a_400_that_says_what_is_wrong(client: TestClient, message: Any, words: str) -> None:
    if message == json_input() | {"parameters": []}:
        message = json_input() | {"parameters": [1]}
    answer = infer(client, message)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert words in answer.json()["error"]


@pytest.mark.parametrize(
    ("size", "blob", "words"),
    [
        (X.nbytes, X.tobytes()[:-1], "unexpected size"),
        (X.nbytes, X.tobytes() + b"x", "unexpected additional input data"),
        (X.nbytes - 4, X.tobytes()[:-4], "unexpected size"),
        (-1, X.tobytes(), "non-negative"),
        (2**62, X.tobytes(), "unexpected size"),
        (0, b"\x00", "unexpected"),
    ],
)
def test_a_wrong_byte_count_is_a_400(client: TestClient, size: int, blob: bytes, words: str) -> None:
    answer = infer(client, binary_input(size), blob)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


@pytest.mark.parametrize("length", ["-1", "abc", "99999999999", "1e3", "99999999999999999999999"])
def test_a_wrong_header_length_is_a_400(client: TestClient, length: str) -> None:
    answer = client.post("/v2/models/linear/infer", content=b"{}", headers={"Inference-Header-Content-Length": length})
    assert answer.status_code == 400
    assert "Inference-Header-Content-Length" in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/nothing", 404),
        ("GET", "/v2/models/linear/versions/9", 404),
        ("GET", "/v2/models/linear@int8", 404),
        ("GET", "/v2/models/linear@original/versions/1", 400),
        ("POST", "/v2/models/nothing/infer", 404),
        ("GET", "/v2/models/linear/infer", 405),
        ("GET", "/v2/nowhere", 404),
        ("GET", "/v2/", 404),
    ],
)
def test_errors_have_the_form_of_the_protocol(client: TestClient, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]


def test_a_body_over_the_limit_or_compressed_is_refused(client: TestClient) -> None:
    assert client.post("/v2/models/linear/infer", content=b" " * (1024**2 + 1)).status_code == 413
    answer = client.post("/v2/models/linear/infer", content=b"x", headers={"Content-Encoding": "br"})
    assert answer.status_code == 501


def test_arbitrary_bytes_are_never_a_server_error(client: TestClient) -> None:
    random = np.random.default_rng(0)
    good = json.dumps(json_input()).encode()
    for _ in range(200):
        body = bytearray(good)
        for _ in range(random.integers(1, 6)):
            body[random.integers(0, len(body))] = random.integers(0, 256)
        assert client.post("/v2/models/linear/infer", content=bytes(body)).status_code in {200, 400, 413}
