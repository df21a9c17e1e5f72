"""Requests and responses of the REST face: JSON, optionally followed by binary tensors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import orjson

from app.engines.engine import NUMPY_TYPES, TensorSpec
from app.errors import Invalid
from app.inference.dataplane import InferenceRequest, InferenceResponse, InputTensor, RequestedOutput
from app.inference.json_text import json_object
from app.inference.parameters import check_not_shared, checked_parameters, flag, whole_number
from app.inference.requests import assembled
from app.inference.tensors import checked_datatype, checked_shape, from_bytes, from_json, to_bytes, to_json

Chunk = bytes | memoryview

_QUICK_BYTES = 16_384
_REMEMBERED_BYTES = 2048


def parse(body: memoryview, header_length: str | None, specs: Sequence[TensorSpec]) -> InferenceRequest:
    """The request in `body`, whose first `header_length` bytes (all, when None) are JSON. Raises `Invalid`.

    `header_length` 0 is a raw-binary request: the body is the one input of the model, described by `specs`.
    """
    json_size = _checked_header_length(body, header_length)
    if header_length is not None and json_size == 0:
        return _raw_request(body, specs)
    # Clients that send binary tensors say the same about them each time.
    repeats = json_size < body.nbytes and json_size <= _REMEMBERED_BYTES
    header = _remembered(bytes(body[:json_size])) if repeats else _read(body[:json_size])
    blobs = _Blobs(body[json_size:])
    tensors = [tensor if isinstance(tensor, InputTensor) else tensor.of(blobs) for tensor in header.inputs]
    blobs.check_used_up()
    return replace(header.rest, inputs=tensors)


def parses_at_once(body: memoryview, header_length: str | None, specs: Sequence[TensorSpec]) -> bool:
    """Whether `parse` takes less time than handing it to a thread: little JSON, and binary tensors that are views."""
    json_size = body.nbytes
    if header_length is not None and header_length.isascii() and header_length.isdigit():
        json_size = min(json_size, int(header_length[:16]))
    strings = any(spec.datatype in {"BYTES", "BOOL"} for spec in specs)
    return (body.nbytes if strings else json_size) <= _QUICK_BYTES


def _checked_header_length(body: memoryview, header_length: str | None) -> int:
    if header_length is None:
        return body.nbytes
    if not (header_length.isascii() and header_length.isdigit() and len(header_length) < 16):
        raise Invalid("Inference-Header-Content-Length must be a non-negative integer")
    if int(header_length) > body.nbytes:
        raise Invalid(f"Inference-Header-Content-Length is {header_length}, and the body has {body.nbytes} bytes")
    return int(header_length)


@dataclass(frozen=True)
class _Header:
    """What the JSON of a request says. `inputs`: whole ones, and those whose bytes follow; `rest` has none of them."""

    inputs: Sequence["InputTensor | _Announced"]
    rest: InferenceRequest


def _read(raw: memoryview | bytes) -> _Header:
    message = json_object(raw)
    inputs = message.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise Invalid("'inputs' must be a non-empty list of tensors")
    tensors = [_input(tensor) for tensor in inputs]
    parameters = checked_parameters("the request", message)
    binary_by_default = flag("binary_data_output", parameters)
    outputs = [_output(output, binary_by_default) for output in _output_list(message)]
    rest = assembled((), outputs, parameters, id=_id(message), binary_by_default=binary_by_default)
    return _Header(tensors, rest)


_remembered = lru_cache(maxsize=1024)(_read)


class _Blobs:
    """The binary part of a body, taken piece by piece in the order of the inputs."""

    def __init__(self, raw: memoryview) -> None:
        self._raw = raw
        self._offset = 0

    def take(self, name: str, size: int) -> memoryview:
        end = self._offset + size
        if end > self._raw.nbytes:
            raise Invalid(
                f"input '{name}': unexpected size: {size} bytes announced, {self._raw.nbytes - self._offset} left"
            )
        piece = self._raw[self._offset : end]
        self._offset = end
        return piece

    def check_used_up(self) -> None:
        left = self._raw.nbytes - self._offset
        if left:
            raise Invalid(f"unexpected additional input data: {left} bytes belong to no input")


@dataclass(frozen=True)
class _Announced:
    """An input whose `size` bytes follow the JSON."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    size: int

    def of(self, blobs: _Blobs) -> InputTensor:
        blob = blobs.take(self.name, self.size)
        return InputTensor(self.name, self.datatype, from_bytes(self.name, self.datatype, self.shape, blob))


def _input(tensor: Any) -> InputTensor | _Announced:
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        raise Invalid("each of 'inputs' must be an object with a 'name'")
    name = tensor["name"][:200]
    shape = checked_shape(name, tensor.get("shape"))
    datatype = checked_datatype(name, tensor.get("datatype"))
    parameters = checked_parameters(f"input '{name}'", tensor)
    check_not_shared(f"input '{name}'", parameters)
    size = parameters.get("binary_data_size")
    if size is None:
        if "data" not in tensor:
            raise Invalid(f"input '{name}' has neither 'data' nor 'binary_data_size'")
        return InputTensor(name, datatype, from_json(name, datatype, shape, tensor["data"]))
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise Invalid(f"input '{name}': 'binary_data_size' must be a non-negative integer")
    if "data" in tensor:
        raise Invalid(f"input '{name}' has both 'data' and 'binary_data_size'; send one")
    return _Announced(name, datatype, shape, size)


def _raw_request(body: memoryview, specs: Sequence[TensorSpec]) -> InferenceRequest:
    if len(specs) != 1:
        raise Invalid(f"a raw-binary request needs a model of one input; this one has {len(specs)}")
    spec = specs[0]
    # The first axis, if dynamic, is the batch: one row. One more may be dynamic, and follows from the byte count.
    shape = [1 if position == 0 and axis < 0 else axis for position, axis in enumerate(spec.shape)]
    if spec.datatype == "BYTES":
        return InferenceRequest([_raw_string(body, spec.name, shape)], binary_by_default=True)
    if shape.count(-1) > 1:
        raise Invalid("a raw-binary request needs a model of at most one dynamic axis beside the batch")
    if -1 in shape:
        row = NUMPY_TYPES[spec.datatype].itemsize * math.prod(axis for axis in shape if axis >= 0)
        shape[shape.index(-1)] = body.nbytes // row if row else 0
    array = from_bytes(spec.name, spec.datatype, tuple(shape), body)
    return InferenceRequest([InputTensor(spec.name, spec.datatype, array)], binary_by_default=True)


def _raw_string(body: memoryview, name: str, shape: list[int]) -> InputTensor:
    """The body as the only element of `shape`: without the length that elements have elsewhere."""
    shape = [1 if axis < 0 else axis for axis in shape]
    if math.prod(shape) != 1:
        raise Invalid(f"a raw-binary request can carry one BYTES element, and input '{name}' has the shape {shape}")
    array = np.empty(shape, dtype=np.object_)
    array.fill(bytes(body))
    return InputTensor(name, "BYTES", array)


def _output_list(message: dict[str, Any]) -> list[Any]:
    outputs = message.get("outputs", [])
    if not isinstance(outputs, list):
        raise Invalid("'outputs' must be a list")
    return outputs


def _output(output: Any, binary_by_default: bool) -> RequestedOutput:
    if not isinstance(output, dict) or not isinstance(output.get("name"), str):
        raise Invalid("each of 'outputs' must be an object with a 'name'")
    owner = f"output '{output['name'][:200]}'"
    parameters = checked_parameters(owner, output)
    check_not_shared(owner, parameters)
    binary = flag("binary_data", parameters, default=binary_by_default)
    return RequestedOutput(output["name"], binary, whole_number("classification", parameters) or 0)


def _id(message: dict[str, Any]) -> str | None:
    identifier = message.get("id")
    if identifier is not None and not isinstance(identifier, str):
        raise Invalid("'id' must be a string")
    return identifier or None


def render(response: InferenceResponse) -> tuple[list[Chunk], int | None]:
    """The body in pieces, and the length of its JSON part when binary tensors follow it."""
    outputs: list[dict[str, Any]] = []
    blobs: list[Chunk] = []
    for tensor in response.outputs:
        output: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.array.shape),
        }
        if tensor.binary:
            blob = to_bytes(tensor.array)
            output["parameters"] = {"binary_data_size": len(blob)}
            blobs.append(blob)
        else:
            output["data"] = to_json(tensor.array)
        outputs.append(output)
    message: dict[str, Any] = {"model_name": response.served.model, "model_version": str(response.served.version)}
    if response.id is not None:
        message["id"] = response.id
    message |= {"parameters": response.parameters, "outputs": outputs}
    header = orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY)
    return [header, *blobs], len(header) if blobs else None
