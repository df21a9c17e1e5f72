"""What a client asks for, whichever face of the protocol it came through."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from app.engines.engine import Array
from app.inference.parameters import SequencePosition, request_parameters, sequence_position, whole_number


class TensorHeader(NamedTuple):
    """An input without its elements. `datatype` as the client named it: BF16 comes as the FP32 that it abbreviates."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class RequestedOutput(NamedTuple):
    """`classification`: so many top classes in place of the tensor; 0 for the tensor itself."""

    name: str
    binary: bool = False
    classification: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class RequestHeader:
    """All that a request says except the elements of its inputs.

    Attributes:
        inputs: In the order of the request.
        outputs: Those wanted; empty for all of them, binary or not by `binary_by_default`.
        priority: 1 is the most urgent; None or 0 leaves it to the server.
        timeout_us: How long the client wants to wait, in microseconds; None or 0 for as long as it takes.
        parameters: Those that the protocol gives no meaning.
        is_cached: Many requests share this object, so what is derived from it is worth keeping.
    """

    inputs: tuple[TensorHeader, ...]
    outputs: tuple[RequestedOutput, ...] = ()
    binary_by_default: bool = False
    id: str | None = None
    priority: int | None = None
    timeout_us: int | None = None
    sequence: SequencePosition | None = None
    parameters: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    is_cached: bool = False

    @classmethod
    def of(
        cls,
        inputs: Sequence[TensorHeader],
        outputs: Sequence[RequestedOutput],
        parameters: Mapping[str, Any],
        *,
        id: str | None,
        binary_by_default: bool,
        is_cached: bool = False,
    ) -> "RequestHeader":
        """The header, with what the `parameters` of the request say. Raises `Invalid` where one of those is wrong."""
        return cls(
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            binary_by_default=binary_by_default,
            id=id,
            priority=whole_number("priority", parameters),
            timeout_us=whole_number("timeout", parameters),
            sequence=sequence_position(parameters),
            parameters=request_parameters(parameters),
            is_cached=is_cached,
        )


class InferenceRequest(NamedTuple):
    """A request as it was parsed. `arrays`: the elements of each of `header.inputs`, of the shape that it says."""

    header: RequestHeader
    arrays: Sequence[Array]
