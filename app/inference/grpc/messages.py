"""Requests and responses of the gRPC face: protobuf messages, their tensors raw or typed."""

from collections.abc import Iterable, Mapping
from typing import Any

from app.engines.engine import Array
from app.errors import Invalid
from app.inference.grpc.schema import METHODS
from app.inference.parameters import check_not_shared, checked_parameters, whole_number
from app.inference.request import InferenceRequest, RequestedOutput, RequestHeader, TensorHeader
from app.inference.response import InferenceResponse
from app.inference.tensors import checked_datatype, checked_shape, from_bytes, from_values, to_bytes

#: A `ModelInferRequest`, or a `ModelInferResponse`.
Message = Any

_Response = METHODS["ModelInfer"].response

#: What tinier messages hold is read sooner than it is handed to a thread.
_QUICK_BYTES = 16_384
#: Each element of these becomes a Python object.
_SLOW = {"BYTES", "BOOL"}

#: Clients of streams ask by it to be told which response to a request is the last. Each request here gets exactly one.
_ASKS_FOR_END = "triton_enable_empty_final_response"
_IS_END = "triton_final_response"

#: The field of `contents` that holds a datatype.
_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def parse(message: Message) -> InferenceRequest:
    """The request in a `ModelInferRequest`. Raises `Invalid`, or `Unsupported` for tensors in shared memory."""
    if not message.inputs:
        raise Invalid("'inputs' must hold at least one tensor")
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise Invalid(
            f"{len(raw)} raw_input_contents for {len(message.inputs)} inputs; send one for each, in their order, and"
            " nothing in shared memory"
        )
    contents: Iterable[bytes | None] = raw or [None] * len(message.inputs)
    inputs = [_input(tensor, blob) for tensor, blob in zip(message.inputs, contents, strict=True)]
    parameters = plain(message.parameters)
    parameters.pop(_ASKS_FOR_END, None)
    header = RequestHeader.of(
        [tensor for tensor, _ in inputs],
        [_output(output) for output in message.outputs],
        checked_parameters("the request", {"parameters": parameters}),
        id=message.id or None,
        binary_by_default=True,
    )
    return InferenceRequest(header, [array for _, array in inputs])


def parses_quickly(message: Message, size: int) -> bool:
    """Whether `parse` of a message of so many bytes takes less time than handing it to a thread."""
    if size <= _QUICK_BYTES:
        return True
    return bool(message.raw_input_contents) and not any(tensor.datatype in _SLOW for tensor in message.inputs)


def plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a map of `…Parameter`. Raises `Invalid` for one that has none."""
    return {name: _value(name, parameter) for name, parameter in parameters.items()}


def _value(name: str, parameter: Any) -> Any:
    choice = parameter.WhichOneof("parameter_choice")
    if choice is None:
        raise Invalid(f"parameter '{name[:80]}' has no value")
    return getattr(parameter, choice)


def _input(tensor: Any, blob: bytes | None) -> tuple[TensorHeader, Array]:
    name = tensor.name[:200]
    shape = checked_shape(name, list(tensor.shape))
    datatype = checked_datatype(name, tensor.datatype)
    owner = f"input '{name}'"
    check_not_shared(owner, checked_parameters(owner, {"parameters": plain(tensor.parameters)}))
    if blob is None:
        if not tensor.HasField("contents"):
            raise Invalid(f"{owner} has neither 'contents' nor a place in 'raw_input_contents'")
        return TensorHeader(name, datatype, shape), _typed(name, datatype, shape, tensor.contents)
    if tensor.HasField("contents"):
        raise Invalid(f"{owner} has 'contents' while 'raw_input_contents' is used; send one or the other")
    return TensorHeader(name, datatype, shape), from_bytes(name, datatype, shape, memoryview(blob))


def _typed(name: str, datatype: str, shape: tuple[int, ...], contents: Any) -> Array:
    if datatype not in _CONTENTS:
        raise Invalid(f"input '{name}': {datatype} has no typed contents; send it in 'raw_input_contents'")
    right = _CONTENTS[datatype]
    wrong = next((field.name for field, _ in contents.ListFields() if field.name != right), None)
    if wrong is not None:
        raise Invalid(f"input '{name}': {datatype} is sent in '{right}', not in '{wrong}'")
    return from_values(name, datatype, shape, list(getattr(contents, right)))


def _output(output: Any) -> RequestedOutput:
    owner = f"output '{output.name[:200]}'"
    parameters = checked_parameters(owner, {"parameters": plain(output.parameters)})
    check_not_shared(owner, parameters)
    return RequestedOutput(output.name, binary=True, classification=whole_number("classification", parameters) or 0)


def render(response: InferenceResponse, *, is_end: bool = False) -> Message:
    """The `ModelInferResponse`, its tensors raw. `is_end`: say that the request gets no other."""
    variant = response.variant
    message = _Response(model_name=variant.model, model_version=str(variant.version), id=response.id or "")
    for name, value in response.parameters.items():
        message.parameters[name].string_param = str(value)
    if is_end:
        message.parameters[_IS_END].bool_param = True
    for tensor in response.outputs:
        message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.array.shape)
        message.raw_output_contents.append(bytes(to_bytes(tensor.array)))
    return message
