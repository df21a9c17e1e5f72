"""The protocol over HTTP; `tests/e2e` has the same by clients that we did not write."""

import gzip
import json
import zlib
from typing import Any

import numpy as np
import onnx
import pytest
from fastapi.testclient import TestClient
from httpx import Response
from onnx import TensorProto, helper

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


def echo_of_strings() -> onnx.ModelProto:
    """`text` STRING[1] → `again` STRING[1]"""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["text"], ["again"])],
        "echo",
        [helper.make_tensor_value_info("text", TensorProto.STRING, [1])],
        [helper.make_tensor_value_info("again", TensorProto.STRING, [1])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


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


def test_arbitrary_bytes_are_never_a_server_error(client: TestClient) -> None:
    random = np.random.default_rng(0)
    good = json.dumps(json_input()).encode()
    for _ in range(200):
        body = bytearray(good)
        for _ in range(random.integers(1, 6)):
            body[random.integers(0, len(body))] = random.integers(0, 256)
        assert client.post("/v2/models/linear/infer", content=bytes(body)).status_code in {200, 400, 413}


def test_bodies_may_come_packed_and_answers_leave_so_when_asked(client: TestClient) -> None:
    message = binary_input() | {"parameters": {"binary_data_output": True}}
    header = json.dumps(message).encode()
    plain = infer(client, message, X.tobytes())
    length = {"Inference-Header-Content-Length": str(len(header))}
    for encoding, pack in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        answer = client.post(
            "/v2/models/linear/infer",
            content=pack(header + X.tobytes()),
            headers=length | {"Content-Encoding": encoding, "Accept-Encoding": encoding},
        )
        assert answer.headers["Content-Encoding"] == encoding
        assert answer.headers["Inference-Header-Content-Length"] == plain.headers["Inference-Header-Content-Length"]
        assert answer.content == plain.content
    metadata = client.get("/v2/models/linear", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in metadata.headers


def test_a_large_output_leaves_in_pieces_of_known_length(client: TestClient) -> None:
    upload_model(client, onnx_bytes(graphs.linear_classifier(classes=8)), name="wide")
    rows = np.random.default_rng(0).normal(size=(3000, 16)).astype(np.float32)
    tensor = {"name": "x", "shape": [3000, 16], "datatype": "FP32", "parameters": {"binary_data_size": rows.nbytes}}
    message = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    answer = infer(client, message, rows.tobytes(), path="/v2/models/wide/infer")
    length = int(answer.headers["Inference-Header-Content-Length"])
    assert int(answer.headers["Content-Length"]) == len(answer.content) == length + 3000 * 8 * 4


def test_bf16_is_taken_where_fp32_is_expected(client: TestClient) -> None:
    upper = (X.view(np.uint32) >> 16).astype(np.uint16)
    widened = (upper.astype(np.uint32) << 16).view(np.float32)
    short = infer(client, binary_input(upper.nbytes, datatype="BF16"), upper.tobytes())
    full = infer(client, binary_input(), widened.tobytes())
    assert short.json()["outputs"] == full.json()["outputs"]
    upload_model(client, onnx_bytes(graphs.two_token_inputs()), name="tokens")
    tensor = {"name": "ids", "shape": [1, 1], "datatype": "BF16", "parameters": {"binary_data_size": 2}}
    answer = infer(client, {"inputs": [tensor]}, b"\0\0", path="/v2/models/tokens/infer")
    assert answer.status_code == 400
    assert "unexpected datatype BF16 for inference input 'ids', expecting INT64" in answer.json()["error"]


def test_a_tensor_of_no_bytes_is_a_tensor(client: TestClient) -> None:
    answer = infer(client, binary_input(0, shape=[0, 16]), b"")
    header = json.dumps(binary_input(0, shape=[0, 16])).encode()
    counted = client.post(
        "/v2/models/linear/infer", content=header, headers={"Inference-Header-Content-Length": str(len(header))}
    )
    for each in (answer, counted):
        assert each.status_code == 200, each.text
        assert each.json()["outputs"][0]["shape"] == [0, 4]


def test_a_raw_binary_string_has_no_length_before_it(client: TestClient) -> None:
    upload_model(client, onnx_bytes(echo_of_strings()), name="echo")
    answer = client.post(
        "/v2/models/echo/infer", content="Straße".encode(), headers={"Inference-Header-Content-Length": "0"}
    )
    assert answer.status_code == 200, answer.text
    length = int(answer.headers["Inference-Header-Content-Length"])
    assert answer.content[length:] == b"\x07\x00\x00\x00" + "Straße".encode()


def test_parameters_that_mean_something_and_those_that_do_not_are_taken(client: TestClient) -> None:
    parameters = {
        "priority": 1,
        "timeout": 60_000_000,
        "sequence_id": "s-1",
        "sequence_start": True,
        "sequence_end": False,
        "mine": 1.5,
    }
    assert infer(client, json_input() | {"parameters": parameters}).status_code == 200


def test_statistics_count_requests_rows_and_batches(client: TestClient) -> None:
    infer(client, json_input())
    infer(client, json_input(shape=[1, 16], data=X[0].tolist()))
    for path in ("/v2/models/linear/stats", "/v2/models/linear/versions/1/stats", "/v2/models/stats"):
        (tally,) = client.get(path).json()["model_stats"]
        assert (tally["name"], tally["version"], tally["inference_count"]) == ("linear", "1", 3), path
        stats = tally["inference_stats"]
        counts = {
            stats[name]["count"] for name in ("success", "queue", "compute_input", "compute_infer", "compute_output")
        }
        assert counts == {2}
        assert [batch["batch_size"] for batch in tally["batch_stats"]] == [1, 2]
        assert stats["fail"]["count"] == 0
        assert stats["compute_infer"]["ns"] > 0
        assert tally["memory_usage"][0]["byte_size"] > 0


def test_an_unloaded_variant_answers_nothing_until_it_is_loaded_or_becomes_the_default(client: TestClient) -> None:
    def ready() -> tuple[int, str]:
        state = client.post("/v2/repository/index").json()[0]
        return client.get("/v2/models/linear/ready").status_code, state["state"]

    load, unload = (f"/v2/repository/models/{name}" for name in ("linear/load", "linear@original/unload"))

    def default() -> Response:
        return client.put("/api/v1/models/linear/default", json={"variant": "original"})

    assert ready() == (200, "READY")
    for back in (lambda: client.post(load), lambda: client.post("/v2/repository/models/linear@1/load"), default):
        assert client.post(unload, json={"parameters": {"unload_dependents": False}}).status_code == 200
        assert ready() == (503, "UNAVAILABLE")
        refused = infer(client, json_input())
        assert refused.status_code == 503
        assert "linear@original/load" in refused.json()["error"]
        assert client.get("/v2/models/linear").status_code == 200
        assert client.post("/v2/repository/index", json={"ready": True}).json() == []
        assert back().status_code == 200
        assert ready() == (200, "READY")
        assert infer(client, json_input()).status_code == 200


def test_prometheus_is_told_what_was_answered_by_model_and_variant(client: TestClient) -> None:
    for rows in (1, 2):
        assert infer(client, json_input(shape=[rows, 16], data=X[:rows].tolist())).status_code == 200
    figures = client.get("/metrics").text
    labels = 'model="linear",variant="original",version="1"'
    for line in (
        f"octet_inference_requests_total{{{labels}}} 2.0",
        f"octet_inference_errors_total{{{labels}}} 0.0",
        f"octet_inference_rows_total{{{labels}}} 3.0",
        f"octet_inference_queue_seconds_count{{{labels}}} 2.0",
        f"octet_inference_compute_seconds_count{{{labels}}} 2.0",
        f'octet_inference_compute_seconds_bucket{{le="+Inf",{labels}}} 2.0',
        f'octet_inference_batch_rows_bucket{{le="1",{labels}}} 1.0',
        f'octet_inference_batch_rows_bucket{{le="2",{labels}}} 2.0',
        f"octet_inference_batch_rows_sum{{{labels}}} 3.0",
        "octet_gateway_processes 1.0",
        'nv_inference_request_success{model="linear",version="1"} 2.0',
        'nv_inference_count{model="linear",version="1"} 3.0',
        'nv_inference_exec_count{model="linear",version="1"} 2.0',
        'octet_jobs{state="queued"} 0',
    ):
        assert f"\n{line}\n" in f"\n{figures}", line
    loaded = next(line for line in figures.splitlines() if line.startswith("octet_loaded_bytes{"))
    assert float(loaded.rpartition(" ")[2]) > 0
    client.delete("/api/v1/models/linear")
    assert 'model="linear"' not in client.get("/metrics").text


def test_settings_can_be_read_and_set_to_what_they_are(client: TestClient) -> None:
    for path in ("/v2/logging", "/v2/trace/setting", "/v2/models/linear/trace/setting"):
        settings = client.get(path).json()
        assert settings
        assert client.post(path, json=settings).json() == settings
        assert client.post(path, json=dict.fromkeys(settings)).json() == settings
        assert client.post(path).json() == settings


def test_the_routes_are_documented_each_once(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    paths = document["paths"]
    operations = [
        operation["operationId"]
        for path, methods in paths.items()
        if path.startswith("/v2")
        for operation in methods.values()
    ]
    assert len(operations) == len(set(operations)) >= 20
    infer_docs = paths["/v2/models/{model}/versions/{version}/infer"]["post"]
    assert {each["name"] for each in infer_docs["parameters"]} >= {
        "model",
        "version",
        "Inference-Header-Content-Length",
    }
    assert "application/octet-stream" in infer_docs["requestBody"]["content"]
    schema = infer_docs["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
    assert document["components"]["schemas"][schema.rpartition("/")[2]]["required"]
