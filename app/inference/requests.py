"""Requests put together from their parts, the same from every face of the protocol."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.inference.dataplane import InferenceRequest, InputTensor, RequestedOutput
from app.inference.parameters import request_parameters, sequence_position, whole_number


def assembled(
    inputs: Sequence[InputTensor],
    outputs: Sequence[RequestedOutput],
    parameters: Mapping[str, Any],
    *,
    id: str | None,
    binary_by_default: bool,
) -> InferenceRequest:
    """The request, with what its `parameters` say. Raises `Invalid` where one of those is wrong."""
    return InferenceRequest(
        inputs=inputs,
        outputs=outputs,
        binary_by_default=binary_by_default,
        id=id,
        priority=whole_number("priority", parameters),
        timeout_us=whole_number("timeout", parameters),
        sequence=sequence_position(parameters),
        parameters=request_parameters(parameters),
    )
