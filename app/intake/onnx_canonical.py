"""Writes a model whose tensors lay in companion files anew, in one of two forms that we choose.

Everything in one `.onnx` where protobuf's size allows it, else a `.onnx` and one data file beside it. The
companion files are read by us alone, at places that were checked; the names they came under are gone.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import GraphProto, ModelProto, TensorProto

from app.errors import InvalidModel
from app.intake.onnx_tensors import ExternalTensor
from app.intake.onnx_walk import walk

MODEL_FILE = "model.onnx"
DATA_FILE = "model.onnx.data"
#: Largest `.onnx` written. Protobuf ends at 2 GiB; what tools add to a model later needs room too.
EMBED_LIMIT = 1_900_000_000
#: Smaller tensors stay in the `.onnx`, where shape inference can read them.
MIN_EXTERNAL_BYTES = 1024
#: Offsets are multiples of a page, so that the data can be memory-mapped.
ALIGNMENT = 4096
_CHUNK_BYTES = 8 * 1024**2

AnyMessage = TypeVar("AnyMessage", bound=Message)


def write_canonical(
    model: ModelProto, external: Sequence[ExternalTensor], model_bytes: int, folder: Path
) -> tuple[Path, Path | None]:
    """Write `model`, its `external` tensors included, into `folder`; `model_bytes` is its size without them.

    `external` is in the order of `walk`. Returns the `.onnx` and, if there had to be one, its data file. The same
    model gives the same bytes, whatever its companion files were called. Bytes of initializers are streamed; those
    of other tensors, which are small in any real model, are put into `model`.
    """
    path = folder / MODEL_FILE
    if model_bytes + sum(each.length for each in external) <= EMBED_LIMIT:
        for each in external:
            if not each.in_main_graph:
                _embed(each)
        _write_embedded(model, external, path)
        return path, None
    for each in external:
        if not each.is_initializer or each.length < MIN_EXTERNAL_BYTES:
            _embed(each)
    _move_initializers(model, external, folder / DATA_FILE)
    serialized = model.SerializeToString(deterministic=True)
    if len(serialized) > EMBED_LIMIT:
        raise InvalidModel(
            f"what the model holds besides its initializers comes to {len(serialized)} bytes, too much for one"
            " protobuf; keep large tensors as initializers"
        )
    path.write_bytes(serialized)
    return path, folder / DATA_FILE


@dataclass(frozen=True)
class _Piece:
    """A serialized initializer: all fields but `raw_data`, which `payload` gives in chunks."""

    head: bytes
    payload: Callable[[], Iterable[bytes]]
    payload_bytes: int

    @property
    def size(self) -> int:
        return len(self.head) + len(self.payload_prefix) + self.payload_bytes

    @property
    def payload_prefix(self) -> bytes:
        return _prefix(TensorProto.RAW_DATA_FIELD_NUMBER, self.payload_bytes) if self.payload_bytes else b""


def _write_embedded(model: ModelProto, external: Sequence[ExternalTensor], path: Path) -> None:
    """Write `model` as one protobuf, the bytes of its initializers straight from where they lie.

    Serializing a model that holds them all would take three times their size in memory.
    """
    waiting = iter([each for each in external if each.in_main_graph])
    pieces = [
        _piece(tensor, next(waiting) if tensor.data_location == TensorProto.EXTERNAL else None)
        for tensor in model.graph.initializer
    ]
    prefixes = [_prefix(GraphProto.INITIALIZER_FIELD_NUMBER, piece.size) for piece in pieces]
    graph = _without(model.graph, {"initializer"}).SerializeToString(deterministic=True)
    size = len(graph) + sum(len(prefix) + piece.size for prefix, piece in zip(prefixes, pieces, strict=True))
    with path.open("xb") as out:
        out.write(_without(model, {"graph"}).SerializeToString(deterministic=True))
        out.write(_prefix(ModelProto.GRAPH_FIELD_NUMBER, size) + graph)
        for prefix, piece in zip(prefixes, pieces, strict=True):
            out.write(prefix + piece.head + piece.payload_prefix)
            out.writelines(piece.payload())


def _piece(tensor: TensorProto, external: ExternalTensor | None) -> _Piece:
    head = _without(tensor, {"raw_data", "external_data", "data_location"}).SerializeToString(deterministic=True)
    if external is not None:
        return _Piece(head, partial(_chunks, external), external.length)
    return _Piece(head, lambda: [tensor.raw_data], len(tensor.raw_data))


def _without(message: AnyMessage, left_out: set[str]) -> AnyMessage:
    """A copy of `message` that lacks some fields; its other fields are repeated ones or scalars."""
    copy = type(message)()
    for field, value in message.ListFields():
        if field.name in left_out:
            continue
        if field.is_repeated:
            getattr(copy, field.name).MergeFrom(value)
        elif field.type == FieldDescriptor.TYPE_STRING and not isinstance(value, str):
            raise InvalidModel(f"the model's {field.name} is not UTF-8 text")
        else:
            setattr(copy, field.name, value)
    return copy


def _prefix(field_number: int, length: int) -> bytes:
    """Protobuf's tag and length of a field of `length` bytes."""
    return _varint(field_number << 3 | 2) + _varint(length)


def _varint(number: int) -> bytes:
    septets = [number >> shift & 0x7F for shift in range(0, max(number.bit_length(), 1), 7)]
    return bytes([septet | 0x80 for septet in septets[:-1]] + septets[-1:])


def _embed(external: ExternalTensor) -> None:
    """Put the bytes into the tensor itself."""
    with external.source.open("rb") as source:
        source.seek(external.offset)
        external.tensor.raw_data = source.read(external.length)
    external.tensor.ClearField("external_data")
    external.tensor.ClearField("data_location")


def _move_initializers(model: ModelProto, external: Sequence[ExternalTensor], path: Path) -> None:
    """Move all large initializers to the data file at `path`, and have them point there."""
    waiting = iter([each for each in external if each.tensor.data_location == TensorProto.EXTERNAL])
    places: dict[tuple[Path, int, int], int] = {}  # tensors that shared bytes go on sharing them
    with path.open("xb") as out:
        for found in walk(model):
            tensor = found.message
            if not isinstance(tensor, TensorProto) or not found.is_initializer:
                continue
            if tensor.data_location == TensorProto.EXTERNAL:
                each = next(waiting)
                key = (each.source, each.offset, each.length)
                if key not in places:
                    places[key] = _append(out, _chunks(each))
                _point(tensor, places[key], each.length)
            elif len(content := tensor.raw_data) >= MIN_EXTERNAL_BYTES:
                _point(tensor, _append(out, [content]), len(content))


def _append(out: BinaryIO, chunks: Iterable[bytes]) -> int:
    """Write `chunks` at the next aligned offset, and return it."""
    offset = -(-out.tell() // ALIGNMENT) * ALIGNMENT
    out.write(bytes(offset - out.tell()))
    for chunk in chunks:
        out.write(chunk)
    return offset


def _chunks(external: ExternalTensor) -> Iterator[bytes]:
    left = external.length
    with external.source.open("rb") as source:
        source.seek(external.offset)
        while left and (chunk := source.read(min(left, _CHUNK_BYTES))):
            left -= len(chunk)
            yield chunk


def _point(tensor: TensorProto, offset: int, length: int) -> None:
    tensor.ClearField("raw_data")
    tensor.ClearField("external_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", DATA_FILE), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
