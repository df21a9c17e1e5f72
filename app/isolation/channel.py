"""How a gateway and a runner talk: short messages over a socket, tensors in memory that both have mapped.

The runner may be in a stranger's hands. So of what comes from it nothing is unpickled, each number is checked against
the shared memory, and what is read from there is copied before anybody looks at it. Only the gateway can resize that
memory, and nobody can shrink it: reading what is gone would kill the reader.
"""

import fcntl
import math
import mmap
import os
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import orjson

from app.engines.engine import NUMPY_TYPES, Array

#: A tensor in the arena, as a message has it: OIP datatype, shape, offset and bytes.
Placed = tuple[str, Sequence[int], int, int]

#: Sizes and offsets that vector instructions, and pages, like.
_ALIGNED = 64
_FIRST_BYTES = 1 << 16
_LENGTH = struct.Struct("<I")
#: Names of tensors and errors; no tensor.
_MAX_MESSAGE_BYTES = 16 * 1024**2


class Garbled(Exception):
    """The other side said something that the protocol does not know."""


class Closed(Exception):
    """The other side is gone."""


class Arena:
    """Memory that two processes share, by a descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._mapped: mmap.mmap | None = None
        self._bytes: Array = np.empty(0, np.uint8)

    @classmethod
    def create(cls) -> "Arena":
        descriptor = os.memfd_create("octet-tensors", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, _FIRST_BYTES)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        return cls(descriptor)

    @property
    def size(self) -> int:
        return len(self._bytes)

    def make_room(self, wanted: int) -> None:
        """Have it hold `wanted` bytes at least."""
        if wanted > os.fstat(self.descriptor).st_size:
            os.ftruncate(self.descriptor, 1 << (wanted - 1).bit_length())
        self.follow()

    def follow(self) -> None:
        """Map all of it, where it has grown."""
        size = os.fstat(self.descriptor).st_size
        if size != len(self._bytes):
            self._mapped = mmap.mmap(self.descriptor, size)
            self._bytes = np.frombuffer(self._mapped, np.uint8)

    def put(self, arrays: Sequence[Array]) -> list[Placed]:
        """Copy `arrays` in, one behind the other. Takes room for `room_for(arrays)`."""
        placed: list[Placed] = []
        start = 0
        for array in arrays:
            datatype, content = _written(array)
            end = start + len(content)
            self._bytes[start:end] = content
            placed.append((datatype, array.shape, start, len(content)))
            start = _aligned(end)
        return placed

    def views(self, placed: Iterable[Any]) -> list[Array]:
        """The tensors in it, uncopied where they are numbers. Raises `Garbled` for what does not lie in it."""
        return [_read(datatype, shape, part) for datatype, shape, part in self._parts(placed)]

    def copies(self, placed: Iterable[Any]) -> list[Array]:
        """As `views`, of what the other side may still be writing to."""
        return [_read(datatype, shape, part.copy()) for datatype, shape, part in self._parts(placed)]

    def close(self) -> None:
        os.close(self.descriptor)
        self._bytes = np.empty(0, np.uint8)

    def _parts(self, placed: Iterable[Any]) -> Iterable[tuple[str, tuple[int, ...], Array]]:
        for each in placed:
            datatype, shape, start, length = _checked(each)
            if start + length > len(self._bytes):
                raise Garbled(f"a tensor at {start} of {length} bytes, in memory of {len(self._bytes)}")
            yield datatype, shape, self._bytes[start : start + length]


def room_for(arrays: Sequence[Array]) -> int:
    """Bytes that `arrays` take in an arena."""
    return sum(_aligned(_size(array)) for array in arrays)


def _size(array: Array) -> int:
    if array.dtype == np.object_:
        return sum(_LENGTH.size + len(item) for item in array.ravel())
    return array.nbytes


def _written(array: Array) -> tuple[str, Array]:
    if array.dtype == np.object_:
        content = b"".join(part for item in array.ravel() for part in (_LENGTH.pack(len(item)), item))
        return "BYTES", np.frombuffer(content, np.uint8)
    datatype = _NAMES.get(array.dtype)
    if datatype is None:
        raise Garbled(f"an array of {array.dtype}")
    return datatype, np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _read(datatype: str, shape: tuple[int, ...], content: Array) -> Array:
    if datatype != "BYTES":
        return content.view(NUMPY_TYPES[datatype]).reshape(shape)
    raw, items, at = content.tobytes(), [], 0
    while at < len(raw):
        if at + _LENGTH.size > len(raw):
            raise Garbled("a string without its length")
        (length,) = _LENGTH.unpack_from(raw, at)
        at += _LENGTH.size + length
        if at > len(raw):
            raise Garbled("a string longer than its tensor")
        items.append(raw[at - length : at])
    if len(items) != math.prod(shape):
        raise Garbled(f"{len(items)} strings, of a shape {shape}")
    array = np.empty(len(items), np.object_)
    array[:] = items
    return array.reshape(shape)


def _checked(placed: Any) -> tuple[str, tuple[int, ...], int, int]:
    """One tensor's place, all of it of the right kind; raises `Garbled`."""
    try:
        datatype, shape, start, length = placed
    except (TypeError, ValueError):
        raise Garbled("a tensor without a place") from None
    if not isinstance(shape, list | tuple) or len(shape) > 64:
        raise Garbled("a tensor without a shape")
    if not all(type(number) is int and 0 <= number < 1 << 48 for number in (*shape, start, length)):
        raise Garbled("a shape, offset or length that is none")
    if not isinstance(datatype, str) or datatype not in NUMPY_TYPES:
        raise Garbled("a tensor of no known datatype")
    if datatype == "BYTES":
        # Each takes its length at least, so that a shape cannot claim more than there is.
        enough = math.prod(shape) * _LENGTH.size <= length
    else:
        enough = math.prod(shape) * NUMPY_TYPES[datatype].itemsize == length
    if not enough or start % _ALIGNED:
        raise Garbled("a tensor whose bytes are not those of its shape")
    return datatype, tuple(shape), start, length


def _aligned(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED


_NAMES = {dtype: name for name, dtype in NUMPY_TYPES.items()}


def send(end: socket.socket, message: Any) -> None:
    """Raises `Closed`."""
    content = orjson.dumps(message)
    try:
        end.sendall(_LENGTH.pack(len(content)) + content)
    except (BrokenPipeError, ConnectionError) as error:
        raise Closed from error


def receive(end: socket.socket) -> Any:
    """The next message. Raises `Closed`, `Garbled`, and `TimeoutError` where the socket has a time limit."""
    content = _received(end, 65536)
    if len(content) < _LENGTH.size:
        content += _exactly(end, _LENGTH.size - len(content))
    (length,) = _LENGTH.unpack_from(content)
    if length > _MAX_MESSAGE_BYTES:
        raise Garbled(f"a message of {length} bytes")
    missing = _LENGTH.size + length - len(content)
    if missing < 0:
        raise Garbled("a message where none was due")
    if missing:
        content += _exactly(end, missing)
    try:
        return orjson.loads(memoryview(content)[_LENGTH.size :])
    except orjson.JSONDecodeError as error:
        raise Garbled("a message that is no JSON") from error


def _exactly(end: socket.socket, count: int) -> bytes:
    content = b""
    while len(content) < count:
        content += _received(end, count - len(content))
    return content


def _received(end: socket.socket, most: int) -> bytes:
    try:
        content = end.recv(most)
    except BlockingIOError:  # the time limit is the kernel's
        raise TimeoutError from None
    except ConnectionError as error:
        raise Closed from error
    if not content:
        raise Closed
    return content


def limit_time(end: socket.socket, seconds: float) -> None:
    """Have `receive` wait for so long at most; by the kernel, which costs nothing."""
    whole = int(seconds)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", whole, int((seconds - whole) * 1e6)))
