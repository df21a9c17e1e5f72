"""Requests and responses of the REST face: JSON, optionally followed by binary tensors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import orjson

from app.engines.engine import NUMPY_TYPES, Array, TensorSpec
from app.errors import Invalid
from app.inference.json_text import json_object
from app.inference.parameters import check_not_shared, checked_parameters, flag, whole_number
from app.inference.request import InferenceRequest, RequestedOutput, RequestHeader, TensorHeader
from app.inference.response import InferenceResponse
from app.inference.tensors import checked_datatype, checked_shape, from_bytes, from_json, to_bytes, to_json

Chunk = bytes | memoryview

_QUICK_BYTES = 16_384
_CACHED_BYTES = 2048
_MOST_CACHED = 1024
#: Shapes of outputs whose JSON is kept for one plan.
_MOST_RENDERED = 16
#: Datatypes whose arrays are no views on the body.
_COPIED = {"BYTES", "BOOL", "BF16"}


def parse(body: bytes | memoryview, header_length: str | None, specs: Sequence[TensorSpec]) -> InferenceRequest:
    """The request in `body`, whose first `header_length` bytes (all, when None) are JSON. Raises `Invalid`.

    `header_length` 0 is a raw-binary request: the body is the one input of the model, described by `specs`.
    """
    size = len(body)
    json_size = size if header_length is None else _checked_header_length(size, header_length)
    if header_length is not None and json_size == 0:
        return _raw_request(memoryview(body), specs)
    # Clients that send binary tensors say the same about them each time.
    is_cached = json_size < size and json_size <= _CACHED_BYTES
    message = _cached(bytes(body[:json_size])) if is_cached else _read(body[:json_size])
    return message.request(body, json_size)


def parses_quickly(size: int, header_length: str | None, specs: Sequence[TensorSpec]) -> bool:
    """Whether `parse` of a body of `size` bytes takes less time than handing it to a thread.

    It does for little JSON, and binary tensors that are views.
    """
    if size <= _QUICK_BYTES:
        return True
    if header_length is None or not (header_length.isascii() and header_length.isdigit()):
        return False
    return int(header_length[:16]) <= _QUICK_BYTES and not any(spec.datatype in {"BYTES", "BOOL"} for spec in specs)


def _checked_header_length(size: int, header_length: str) -> int:
    if not (header_length.isascii() and header_length.isdigit() and len(header_length) < 16):
        raise Invalid("Inference-Header-Content-Length must be a non-negative integer")
    length = int(header_length)
    if length > size:
        raise Invalid(f"Inference-Header-Content-Length is {header_length}, and the body has {size} bytes")
    return length


@dataclass(frozen=True, slots=True)
class _Message:
    """The JSON of a request: of each input its array, or the count of its bytes, which follow the JSON.

    `views`: dtype, elements and offset of each input, where all are plain views on bytes that follow; `views_bytes`:
    their bytes together.
    """

    header: RequestHeader
    parts: Sequence[Array | int]
    views: Sequence[tuple[np.dtype[Any], int, int, tuple[int, ...]]] | None
    views_bytes: int

    def request(self, body: bytes | memoryview, json_size: int) -> InferenceRequest:
        """With the arrays from `body`. Raises `Invalid` where its bytes are not those that were announced."""
        if self.views is not None and len(body) == json_size + self.views_bytes:
            arrays = [
                np.frombuffer(body, dtype, count, json_size + offset).reshape(shape)
                for dtype, count, offset, shape in self.views
            ]
            return InferenceRequest(self.header, arrays)
        blobs = _Blobs(memoryview(body)[json_size:])
        arrays = [
            from_bytes(*tensor, blobs.take(tensor.name, part)) if isinstance(part, int) else part
            for tensor, part in zip(self.header.inputs, self.parts, strict=True)
        ]
        blobs.check_used_up()
        return InferenceRequest(self.header, arrays)


def _read(raw: memoryview | bytes, *, is_cached: bool = False) -> _Message:
    message = json_object(raw)
    inputs = message.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise Invalid("'inputs' must be a non-empty list of tensors")
    tensors = [_input(tensor) for tensor in inputs]
    parameters = checked_parameters("the request", message)
    binary_by_default = flag("binary_data_output", parameters)
    header = RequestHeader.of(
        [tensor for tensor, _ in tensors],
        [_output(output, binary_by_default) for output in _output_list(message)],
        parameters,
        id=_id(message),
        binary_by_default=binary_by_default,
        is_cached=is_cached,
    )
    parts = [part for _, part in tensors]
    views = _views(header.inputs, parts)
    return _Message(header, parts, views, sum(part for part in parts if isinstance(part, int)))


@lru_cache(_MOST_CACHED)
def _cached(raw: bytes) -> _Message:
    return _read(raw, is_cached=True)


def _views(
    tensors: Sequence[TensorHeader], parts: Sequence[Array | int]
) -> list[tuple[np.dtype[Any], int, int, tuple[int, ...]]] | None:
    views = []
    offset = 0
    for (_, datatype, shape), part in zip(tensors, parts, strict=True):
        # A part of another size than the shape's is for `from_bytes` to refuse, an empty one for it to make.
        if not isinstance(part, int) or datatype in _COPIED or not part:
            return None
        dtype, count = NUMPY_TYPES[datatype].newbyteorder("<"), math.prod(shape)
        if part != count * dtype.itemsize:
            return None
        views.append((dtype, count, offset, shape))
        offset += part
    return views


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


def _input(tensor: Any) -> tuple[TensorHeader, Array | int]:
    """An input, and its array, or the count of its bytes, which follow the JSON."""
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
        return TensorHeader(name, datatype, shape), from_json(name, datatype, shape, tensor["data"])
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise Invalid(f"input '{name}': 'binary_data_size' must be a non-negative integer")
    if "data" in tensor:
        raise Invalid(f"input '{name}' has both 'data' and 'binary_data_size'; send one")
    return TensorHeader(name, datatype, shape), size


def _raw_request(body: memoryview, specs: Sequence[TensorSpec]) -> InferenceRequest:
    if len(specs) != 1:
        raise Invalid(f"a raw-binary request needs a model of one input; this one has {len(specs)}")
    spec = specs[0]
    # The first axis, if dynamic, is the batch: one row. One more may be dynamic, and follows from the byte count.
    shape = [1 if position == 0 and axis < 0 else axis for position, axis in enumerate(spec.shape)]
    if spec.datatype == "BYTES":
        return _single(spec, _raw_string(body, spec.name, shape))
    if shape.count(-1) > 1:
        raise Invalid("a raw-binary request needs a model of at most one dynamic axis beside the batch")
    if -1 in shape:
        row = NUMPY_TYPES[spec.datatype].itemsize * math.prod(axis for axis in shape if axis >= 0)
        shape[shape.index(-1)] = body.nbytes // row if row else 0
    array = from_bytes(spec.name, spec.datatype, tuple(shape), body)
    return _single(spec, array)


def _single(spec: TensorSpec, array: Array) -> InferenceRequest:
    tensor = TensorHeader(spec.name, spec.datatype, array.shape)
    return InferenceRequest(RequestHeader((tensor,), binary_by_default=True), [array])


def _raw_string(body: memoryview, name: str, shape: list[int]) -> Array:
    """The body as the only element of `shape`: without the length that elements have elsewhere."""
    shape = [1 if axis < 0 else axis for axis in shape]
    if math.prod(shape) != 1:
        raise Invalid(f"a raw-binary request can carry one BYTES element, and input '{name}' has the shape {shape}")
    array = np.empty(shape, dtype=np.object_)
    array.fill(bytes(body))
    return array


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
    plan = response.plan
    if plan is None or not all(tensor.binary and tensor.datatype != "BYTES" for tensor in response.outputs):
        return _rendered(response)
    # The JSON says nothing of the values then, and is the same for all answers of these shapes.
    key = (response.experiment, response.reason, *[tensor.array.shape for tensor in response.outputs])
    header = plan.rendered.get(key)
    if header is None:
        header = _rendered(response)[0][0]
        if len(plan.rendered) >= _MOST_RENDERED:
            plan.rendered.clear()
        plan.rendered[key] = header
    return [header, *[to_bytes(tensor.array) for tensor in response.outputs]], len(header)


def _rendered(response: InferenceResponse) -> tuple[list[Chunk], int | None]:
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
    variant = response.variant
    message: dict[str, Any] = {"model_name": variant.model, "model_version": str(variant.version)}
    if response.id is not None:
        message["id"] = response.id
    message |= {"parameters": response.parameters, "outputs": outputs}
    header = orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY)
    return [header, *blobs], len(header) if blobs else None
