"""JSON from strangers: parsed by orjson, with the shape of it bounded."""

from typing import Any

import orjson

from app.errors import Invalid

#: Deeper nesting than this is refused, wherever in the message it is.
MAX_DEPTH = 100
#: A message has some dozens of keys; a body of a million is an attack on whoever walks over them.
MAX_KEYS = 10_000

_HOLDERS = {dict, list}


def json_object(raw: memoryview | bytes) -> dict[str, Any]:
    """The JSON object in `raw`; raises `Invalid` for anything else, for what is too deep, or has too many keys."""
    try:
        message = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"failed to parse the request JSON: {error}") from error
    if not isinstance(message, dict):
        raise Invalid("the request must be a JSON object")
    _check_bounds(message)
    return message


def _check_bounds(message: dict[str, Any]) -> None:
    """Level by level, without recursion. Lists of scalars, which is what tensors are, cost one look at each element."""
    level: list[Any] = [message]
    keys = 0
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for holder in level:
            if isinstance(holder, dict):
                keys += len(holder)
                if keys > MAX_KEYS:
                    raise Invalid(f"the request JSON has more than {MAX_KEYS} keys")
                below += [value for value in holder.values() if type(value) in _HOLDERS]
            elif not _HOLDERS.isdisjoint(map(type, holder)):
                below += [value for value in holder if type(value) in _HOLDERS]
        if not below:
            return
        level = below
    raise Invalid(f"the request JSON is nested deeper than {MAX_DEPTH} levels")
