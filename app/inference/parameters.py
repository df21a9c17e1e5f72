"""The `parameters` of a request, an input or an output: those that mean something here are checked, others pass."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.errors import Invalid, Unsupported

_RESERVED = "triton_"
#: How parameters begin that refer to memory which client and server share; they are not offered.
_SHARED_MEMORY = "shared_memory_"
_LARGEST = 2**64 - 1
#: These are read into fields of their own.
_KNOWN = {
    "binary_data_output",
    "priority",
    "timeout",
    "sequence_id",
    "sequence_start",
    "sequence_end",
}


@dataclass(frozen=True)
class SequencePosition:
    """Where a request stands in a sequence of requests. Models here keep no state, so it changes no answer."""

    id: int | str
    start: bool = False
    end: bool = False


def checked_parameters(owner: str, holder: Mapping[str, Any]) -> dict[str, Any]:
    """The `parameters` of `holder`, empty when absent. Raises `Invalid` unless an object of permitted names."""
    parameters = holder.get("parameters", {})
    if not isinstance(parameters, dict):
        raise Invalid(f"'parameters' of {owner} must be an object")
    reserved = next((name for name in parameters if name.startswith(_RESERVED)), None)
    if reserved is not None:
        raise Invalid(f"parameter '{reserved[:80]}': names that begin with '{_RESERVED}' are reserved")
    return parameters


def check_not_shared(owner: str, parameters: Mapping[str, Any]) -> None:
    """Raises `Unsupported` where a tensor, `owner`, lies in memory that the client shares."""
    if any(name.startswith(_SHARED_MEMORY) for name in parameters):
        raise Unsupported(f"{owner} refers to shared memory, which is not offered; send the bytes in the body")


def check_loaded_as_is(parameters: Mapping[str, Any]) -> None:
    """Raises `Unsupported` where the parameters of a load bring a model's configuration or files along."""
    replaced = next((name for name in parameters if name == "config" or name.startswith("file:")), None)
    if replaced is not None:
        raise Unsupported(
            f"'{replaced[:80]}' is not offered: models come by POST /api/v1/models, and are loaded as they are"
        )


def request_parameters(parameters: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """Those that mean nothing to the protocol. Raises `Invalid` where one is no string, number or boolean."""
    others = {name: value for name, value in parameters.items() if name not in _KNOWN}
    for name, value in others.items():
        if not isinstance(value, (str, int, float, bool)):
            raise Invalid(f"parameter '{name[:80]}' must be a string, a number or a boolean")
    return others


def flag(name: str, parameters: Mapping[str, Any], *, default: bool = False) -> bool:
    """Parameter `name`; raises `Invalid` unless it is a boolean."""
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise Invalid(f"'{name}' must be true or false")
    return value


def whole_number(name: str, parameters: Mapping[str, Any]) -> int | None:
    """Parameter `name`, None when absent; raises `Invalid` unless it is an unsigned integer of 64 bits."""
    value = parameters.get(name)
    if name not in parameters:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST:
        raise Invalid(f"'{name}' must be a non-negative integer")
    return value


def sequence_position(parameters: Mapping[str, Any]) -> SequencePosition | None:
    """What the `sequence_*` parameters say; None without an id, or with 0 or "", which mean none."""
    identifier = parameters.get("sequence_id", 0)
    known = isinstance(identifier, str) or (isinstance(identifier, int) and not isinstance(identifier, bool))
    if not known or (isinstance(identifier, int) and not 0 <= identifier <= _LARGEST):
        raise Invalid("'sequence_id' must be a non-negative integer or a string")
    start, end = flag("sequence_start", parameters), flag("sequence_end", parameters)
    if not identifier:
        return None
    return SequencePosition(identifier, start, end)
