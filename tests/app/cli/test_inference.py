import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from app.cli import inference
from app.cli.inference import Answer
from app.errors import OctetError
from tests.app.cli.answers import Handler, connection

LENGTH = "Inference-Header-Content-Length"


class Protocol:
    """Answers as a gateway with a model of `inputs` does; keeps the tensors that were sent."""

    def __init__(self, inputs: list[dict[str, Any]], outputs: Mapping[str, tuple[str, NDArray[Any]]]) -> None:
        self._inputs = inputs
        self._outputs = outputs
        self.sent: dict[str, tuple[str, list[int], bytes]] = {}
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        if request.method == "GET":
            return httpx.Response(200, json={"inputs": self._inputs})
        body, length = request.read(), int(request.headers[LENGTH])
        offset = length
        for tensor in json.loads(body[:length])["inputs"]:
            size = tensor["parameters"]["binary_data_size"]
            self.sent[tensor["name"]] = (tensor["datatype"], tensor["shape"], body[offset : offset + size])
            offset += size
        assert offset == len(body)
        return self._answer()

    def _answer(self) -> httpx.Response:
        described, raw = [], b""
        for name, (datatype, array) in self._outputs.items():
            blob = array.tobytes()
            size = {"binary_data_size": len(blob)}
            described.append({"name": name, "datatype": datatype, "shape": list(array.shape), "parameters": size})
            raw += blob
        header = json.dumps({"outputs": described}).encode()
        return httpx.Response(200, content=header + raw, headers={LENGTH: str(len(header)), "X-Model-Variant": "int8"})


def spec(name: str, datatype: str) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [-1, 2]}


SCORES = {"y": ("FP32", np.array([[0.1, 0.9]], np.float32))}


def ask(handler: Handler, arrays: Mapping[str, NDArray[Any]]) -> Answer:
    return inference.ask(connection(handler), "bert@int8", arrays)


def test_all_inputs_go_in_the_order_and_datatypes_of_the_model() -> None:
    server = Protocol([spec("ids", "INT64"), spec("mask", "BOOL"), spec("x", "FP16")], SCORES)
    arrays = {
        "x": np.array([[1, 2]], np.float64),
        "label": np.array([3]),
        "mask": np.array([[1, 0]]),
        "ids": np.array([[7, 8]], np.int32),
    }
    answer = ask(server, arrays)
    assert list(server.sent) == ["ids", "mask", "x"]
    assert server.sent["ids"] == ("INT64", [1, 2], np.array([[7, 8]], np.int64).tobytes())
    assert server.sent["mask"] == ("BOOL", [1, 2], b"\x01\x00")
    assert server.sent["x"] == ("FP16", [1, 2], np.array([[1, 2]], np.float16).tobytes())
    assert server.asked == ["/v2/models/bert@int8", "/v2/models/bert@int8/infer"]
    assert answer.variant == "int8"
    np.testing.assert_array_equal(answer.outputs["y"], SCORES["y"][1])


def test_a_sample_cut_from_a_strided_array_is_sent_in_row_order() -> None:
    server = Protocol([spec("x", "FP32")], SCORES)
    array = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(1, 3, 2))
    ask(server, {"x": array})
    assert server.sent["x"] == ("FP32", [1, 3, 2], np.arange(6, dtype=np.float32).tobytes())


def test_several_outputs_are_cut_apart_where_they_end() -> None:
    outputs = {
        "scores": ("FP64", np.array([[1.5, -2.0, 3.0]])),
        "best": ("INT64", np.array([2])),
        "half": ("FP16", np.array([[0.5]], np.float16)),
    }
    answer = ask(Protocol([spec("x", "FP32")], outputs), {"x": np.zeros((1, 2), np.float32)})
    assert list(answer.outputs) == ["scores", "best", "half"]
    for name, (_, array) in outputs.items():
        assert answer.outputs[name].dtype == array.dtype
        np.testing.assert_array_equal(answer.outputs[name], array)


def test_an_array_without_a_name_is_the_only_input_or_none() -> None:
    array = np.zeros((1, 2), np.float32)
    server = Protocol([spec("x", "FP32")], SCORES)
    ask(server, {"": array})
    assert list(server.sent) == ["x"]
    with pytest.raises(OctetError, match="no array 'ids'"):
        ask(Protocol([spec("ids", "INT64"), spec("mask", "BOOL")], SCORES), {"": array})


@pytest.mark.parametrize("sample", [0, 2])
def test_one_sample_keeps_its_first_axis(tmp_path: Path, sample: int) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(6).reshape(3, 2), label=np.array([4, 5, 6]))
    read = inference.read_sample(tmp_path / "a.npz", sample)
    np.testing.assert_array_equal(read["x"], np.arange(6).reshape(3, 2)[[sample]])
    np.testing.assert_array_equal(read["label"], [4 + sample])


@pytest.mark.parametrize("sample", [-1, 3])
def test_a_sample_outside_the_file_is_refused(tmp_path: Path, sample: int) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(6).reshape(3, 2))
    with pytest.raises(OctetError, match=rf"no sample {sample}: array 'x' has shape \[3, 2\]"):
        inference.read_sample(tmp_path / "a.npz", sample)


def described(array: NDArray[Any], labels: list[str] | None = None, top: int = 2) -> str:
    (line,) = inference.described(Answer("int8", {"y": array}, 1.0), labels, top)
    return line


def test_scores_are_told_by_class_the_best_first() -> None:
    scores = np.array([[0.25, 0.5, 0.125]], np.float32)
    assert described(scores, ["cat", "dog", "eel"]) == "y: dog 0.500, cat 0.250"
    assert described(scores) == "y: class 1 0.500, class 0 0.250"
    assert described(scores, top=9) == "y: class 1 0.500, class 0 0.250, class 2 0.125"


def test_labels_of_another_length_name_nothing() -> None:
    assert described(np.array([[0.25, 0.5, 0.125]], np.float32), ["cat", "dog"]).startswith("y: float32 [1, 3] [0.25,")


def test_what_is_not_scores_is_told_by_its_shape_and_first_values() -> None:
    assert described(np.arange(8, dtype=np.int64).reshape(1, 2, 4)) == "y: int64 [1, 2, 4] [0, 1, 2, 3, 4, …]"
