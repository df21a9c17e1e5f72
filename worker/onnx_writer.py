"""ONNX files written one tensor at a time: protobuf's own writer holds the whole file in memory two more times."""

from collections.abc import Callable, Container, Iterator
from pathlib import Path

import onnx
from google.protobuf.message import Message
from onnx import TensorProto

# Numbers of fields, and of the type of wire that has a length before it (protobuf's encoding, "Message Structure").
_GRAPH, _INITIALIZER, _RAW_DATA, _LAST = 7, 5, 9, 2**29
_LENGTH_DELIMITED = 2

_IN_PLACE_OF = frozenset({"raw_data", "external_data", "data_location"})

Payload = Callable[[TensorProto], bytes | memoryview]


def write(model: onnx.ModelProto, path: Path, is_reference: Callable[[TensorProto], bool], payload: Payload) -> None:
    """Write the bytes that `SerializeToString` would give if all weights were in `model`.

    Args:
        model: Initializers of its main graph may be references; no other tensor is one.
        path: The file to write.
        is_reference: Whether the values of a tensor are elsewhere.
        payload: The values of a reference, as `raw_data` has them.
    """
    graph = model.graph
    head, tail = _encoded(graph, range(_INITIALIZER)), _encoded(graph, range(_INITIALIZER + 1, _LAST))
    sizes = [sum(map(len, _parts(tensor, is_reference, payload))) for tensor in graph.initializer]
    size = len(head) + len(tail) + sum(len(_tag(_INITIALIZER, size)) + size for size in sizes)
    with path.open("wb") as file:
        file.write(_encoded(model, range(_GRAPH)) + _tag(_GRAPH, size) + head)
        for tensor, size in zip(graph.initializer, sizes, strict=True):
            file.write(_tag(_INITIALIZER, size))
            file.writelines(_parts(tensor, is_reference, payload))
        file.write(tail + _encoded(model, range(_GRAPH + 1, _LAST)))


def _parts(
    tensor: TensorProto, is_reference: Callable[[TensorProto], bool], payload: Payload
) -> Iterator[bytes | memoryview]:
    """The encoding of `tensor` with its values in it."""
    if not is_reference(tensor):
        yield tensor.SerializeToString()
        return
    content = payload(tensor)
    yield _encoded(tensor, range(_RAW_DATA), but=_IN_PLACE_OF) + _tag(_RAW_DATA, len(content))
    yield content
    yield _encoded(tensor, range(_RAW_DATA + 1, _LAST), but=_IN_PLACE_OF)


def _encoded(message: Message, numbers: Container[int], but: Container[str] = ()) -> bytes:
    """The fields of `message` with these `numbers`."""
    part = type(message)()
    for field, value in message.ListFields():
        if field.number not in numbers or field.name in but:
            continue
        if field.is_repeated:
            getattr(part, field.name).extend(value)
        elif field.message_type is not None:
            getattr(part, field.name).CopyFrom(value)
        else:
            setattr(part, field.name, value)
    return bytes(part.SerializeToString())


def _tag(number: int, length: int) -> bytes:
    """What stands before a field of so many bytes."""
    encoded = bytearray([number << 3 | _LENGTH_DELIMITED])
    while length >= 0x80:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    encoded.append(length)
    return bytes(encoded)
