"""Requests as bytes, in the form that each server reads fastest, and what their answers must hold."""

import base64
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from app.engines.engine import OIP_NAMES
from contest.cases import Array, Case
from contest.load import Exchange

#: From a case, a path and the number of a sample.
Wire = Callable[[Case, str, int], Exchange]

_JSON_LENGTH = re.compile(rb"inference-header-content-length: *(\d+)", re.IGNORECASE)

#: Of the largest output. INT8 graphs in a batch may round a value the other way, which later layers make larger.
_TOLERANCE = 0.03


def oip_binary(case: Case, path: str, number: int) -> Exchange:
    """The Open Inference Protocol with binary tensors."""
    sample = case.samples[number]
    inputs = [
        {**_described(name, array), "parameters": {"binary_data_size": array.nbytes}} for name, array in sample.items()
    ]
    outputs = [{"name": case.output, "parameters": {"binary_data": True}}]
    header = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    body = header + b"".join(array.tobytes() for array in sample.values())
    extra = {"Inference-Header-Content-Length": str(len(header))}

    def read(head: bytes, content: bytes) -> Any:
        found = _JSON_LENGTH.search(head)
        return np.frombuffer(content[int(found[1]) if found else 0 :], np.float32)

    return Exchange(_post(path, body, "application/octet-stream", extra), _check(case, number, read))


def oip_json(case: Case, path: str, number: int) -> Exchange:
    """The Open Inference Protocol in JSON alone."""
    sample = case.samples[number]
    inputs = [{**_described(name, array), "data": array.ravel().tolist()} for name, array in sample.items()]

    def read(head: bytes, content: bytes) -> Any:
        return json.loads(content)["outputs"][0]["data"]

    return Exchange(_post_json(path, {"inputs": inputs}), _check(case, number, read))


def raw(case: Case, path: str, number: int) -> Exchange:
    """The bytes of all inputs, one after the other; answered by those of the output."""
    request = _post(path, _joined(case, number), "application/octet-stream")
    return Exchange(request, _check(case, number, lambda head, content: np.frombuffer(content, np.float32)))


def base64_json(case: Case, path: str, number: int) -> Exchange:
    """`raw` in JSON, both ways."""

    def read(head: bytes, content: bytes) -> Any:
        return np.frombuffer(base64.b64decode(json.loads(content)["output"]), np.float32)

    request = _post_json(path, {"input": base64.b64encode(_joined(case, number)).decode()})
    return Exchange(request, _check(case, number, read))


def stacked_lists(case: Case, path: str, number: int) -> Exchange:
    """One nested list `x`, of one row in which inputs are stacked where a model has several; answered by a list."""
    arrays = list(case.samples[number].values())
    stacked = arrays[0] if len(arrays) == 1 else np.stack(arrays, axis=1)
    return Exchange(
        _post_json(path, {"x": stacked.tolist()}),
        _check(case, number, lambda head, content: json.loads(content)),
    )


def _described(name: str, array: Array) -> dict[str, Any]:
    return {"name": name, "shape": list(array.shape), "datatype": OIP_NAMES[array.dtype]}


def _joined(case: Case, number: int) -> bytes:
    return b"".join(array.tobytes() for array in case.samples[number].values())


def _check(case: Case, number: int, read: Callable[[bytes, bytes], Any]) -> Callable[[bytes, bytes], str | None]:
    expected = case.expected[number].ravel()
    allowed = _TOLERANCE * float(np.abs(expected).max())

    def check(head: bytes, content: bytes) -> str | None:
        got = np.asarray(read(head, content), np.float32).ravel()
        if got.shape != expected.shape:
            return f"{got.size} numbers where {expected.size} were expected"
        off = float(np.abs(got - expected).max())
        return None if off <= allowed else f"a number is off by {off:.3g}; up to {allowed:.3g} is rounding"

    return check


def _post_json(path: str, message: Any) -> bytes:
    return _post(path, json.dumps(message).encode(), "application/json")


def _post(path: str, body: bytes, media_type: str, extra: Mapping[str, str] | None = None) -> bytes:
    headers = {
        "Host": "127.0.0.1",
        "Content-Type": media_type,
        "Content-Length": str(len(body)),
        **(extra or {}),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body
