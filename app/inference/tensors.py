"""Tensors of the Open Inference Protocol V2: JSON and bytes ↔ numpy arrays.

Binary form: little-endian, row-major; BOOL is one byte; BF16 is the upper half of an FP32; BYTES is, for each element,
a little-endian u32 length and that many bytes. Source: the protocol's REST specification and its binary tensor data
extension.

BF16 comes in only, and as the FP32 that it abbreviates, exactly: the engine takes no tensors of it.
"""

import math
import struct
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from app.engines.engine import NUMPY_TYPES, Array
from app.errors import Invalid

#: No claimed shape beyond this many elements is believed.
MAX_ELEMENTS = 2**40

_INTEGER_KINDS = "iu"
#: Up to this size, a copy takes less time than a view.
_COPIED_BYTES = 4096
_IS_LITTLE = sys.byteorder == "little"
_BF16_BITS = np.dtype("<u2")


def checked_shape(name: str, shape: Any) -> tuple[int, ...]:
    """`shape` as a tuple; raises `Invalid` unless it is a list of non-negative integers of a sane product."""
    if not isinstance(shape, list) or not all(
        isinstance(axis, int) and not isinstance(axis, bool) and axis >= 0 for axis in shape
    ):
        raise Invalid(f"input '{name}': 'shape' must be a list of non-negative integers, such as [1, 3, 32, 32]")
    # Zeros are left out of the product: [2**62, 0] claims nothing, yet no array can have it.
    if len(shape) > 32 or math.prod(axis or 1 for axis in shape) > MAX_ELEMENTS:
        raise Invalid(f"input '{name}': shape {str(shape)[:100]} is too large")
    return tuple(shape)


def checked_datatype(name: str, datatype: Any) -> str:
    """`datatype` itself; raises `Invalid` for one that the protocol does not know."""
    if not isinstance(datatype, str) or (datatype not in NUMPY_TYPES and datatype != "BF16"):
        known = ", ".join([*NUMPY_TYPES, "BF16"])
        raise Invalid(f"input '{name}': unknown datatype {str(datatype)[:40]!r}; known are {known}")
    return datatype


def from_json(name: str, datatype: str, shape: tuple[int, ...], values: Any) -> Array:
    """The array of `values`, nested or flat, in row-major order. Raises `Invalid` when they are not `shape`'s."""
    if not isinstance(values, list):
        raise Invalid(f"input '{name}': 'data' must be a list")
    if datatype in {"FP16", "BF16"}:
        raise Invalid(f"input '{name}': {datatype} has no JSON form; send it as binary data")
    flat = _flattened(name, values)
    if datatype == "BYTES":
        flat = _encoded(name, flat)
    return from_values(name, datatype, shape, flat)


def from_values(name: str, datatype: str, shape: tuple[int, ...], flat: list[Any]) -> Array:
    """The array of `flat`, in row-major order: bytes for BYTES, else numbers or booleans. Not for FP16 and BF16.

    Raises `Invalid` when they are not `shape`'s or not of the datatype.
    """
    if len(flat) != math.prod(shape):
        raise Invalid(
            f"input '{name}': unexpected size: {len(flat)} elements, and shape {list(shape)} takes {math.prod(shape)}"
        )
    if datatype == "BYTES":
        array = np.empty(len(flat), dtype=np.object_)
        array[:] = flat
        return array.reshape(shape)
    return _numbers(name, datatype, flat).reshape(shape)


def _flattened(name: str, values: list[Any]) -> list[Any]:
    """One list of scalars; depth-first without recursion, since the depth is the client's choice."""
    if list not in set(map(type, values)):
        return values
    flat: list[Any] = []
    stack: list[Any] = [iter(values)]
    while stack:
        for value in stack[-1]:
            if isinstance(value, list):
                if len(stack) > 32:
                    raise Invalid(f"input '{name}': 'data' is nested too deeply")
                stack.append(iter(value))
                break
            flat.append(value)
        else:
            stack.pop()
    return flat


def _encoded(name: str, flat: list[Any]) -> list[bytes]:
    if not all(isinstance(value, str) for value in flat):
        raise Invalid(f"input '{name}': BYTES elements must be strings in JSON")
    return [value.encode() for value in flat]


def _numbers(name: str, datatype: str, flat: list[Any]) -> Array:
    dtype = NUMPY_TYPES[datatype]
    if not flat:
        return np.empty(0, dtype=dtype)
    allowed = {bool} if datatype == "BOOL" else {int} if dtype.kind in _INTEGER_KINDS else {int, float}
    if not set(map(type, flat)) <= allowed:
        wrong = next(value for value in flat if type(value) not in allowed)
        raise Invalid(f"input '{name}': {str(wrong)[:40]!r} is not a {datatype}")
    if dtype.kind in _INTEGER_KINDS:
        limits = np.iinfo(dtype)
        if min(flat) < limits.min or max(flat) > limits.max:
            raise Invalid(f"input '{name}': {datatype} holds {limits.min} to {limits.max}, 'data' goes beyond")
    try:
        with np.errstate(over="ignore"):
            array: Array = np.array(flat, dtype=dtype)
    except OverflowError as error:
        raise Invalid(f"input '{name}': 'data' holds a number that no {datatype} can be") from error
    return array


def from_bytes(name: str, datatype: str, shape: tuple[int, ...], raw: memoryview) -> Array:
    """The array that `raw` holds, a view on it except for BOOL, BYTES and BF16, which becomes FP32.

    Raises `Invalid` for a wrong byte count, before it takes any memory for the shape.
    """
    count = math.prod(shape)
    if datatype == "BYTES":
        return _bytes_from_binary(name, count, raw).reshape(shape)
    dtype = _BF16_BITS if datatype == "BF16" else NUMPY_TYPES[datatype].newbyteorder("<")
    if raw.nbytes != count * dtype.itemsize:
        raise Invalid(
            f"input '{name}': unexpected size: got {raw.nbytes} bytes, and shape {list(shape)} of {datatype} takes"
            f" {count * dtype.itemsize}"
        )
    if datatype == "BOOL":
        # Any byte but 0 is true, and not every byte is a valid bool to numpy: so this one is copied.
        return np.not_equal(np.frombuffer(raw, dtype=np.uint8), 0).reshape(shape)
    array: Array = np.frombuffer(raw, dtype=dtype).reshape(shape)
    if datatype == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array


def _bytes_from_binary(name: str, count: int, raw: memoryview) -> Array:
    elements: list[bytes] = []
    offset = 0
    while offset < raw.nbytes:
        if offset + 4 > raw.nbytes:
            raise Invalid(f"input '{name}': unexpected size: the last element's length is cut off")
        (length,) = struct.unpack_from("<I", raw, offset)
        offset += 4
        if offset + length > raw.nbytes:
            raise Invalid(f"input '{name}': unexpected size: an element of {length} bytes goes beyond the data")
        elements.append(bytes(raw[offset : offset + length]))
        offset += length
    if len(elements) != count:
        raise Invalid(f"input '{name}': unexpected size: {len(elements)} elements, and its shape takes {count}")
    array = np.empty(count, dtype=np.object_)
    array[:] = elements
    return array


def to_json(array: Array) -> list[str] | Array:
    """The elements, flat, in row-major order: as orjson takes them, numbers without a Python object for each.

    NaN and infinities have no JSON form, and orjson writes null for them.

    Raises `Invalid` for BYTES that are not text: those can be asked for as binary data.
    """
    if array.dtype == np.object_:
        try:
            return [element.decode() for element in array.ravel()]
        except UnicodeDecodeError as error:
            raise Invalid("an output holds bytes that are not UTF-8 text; ask for it with binary_data: true") from error
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")).reshape(-1)


def to_bytes(array: Array) -> bytes | memoryview:
    """The elements in binary form, without a copy where the array is contiguous and not small."""
    if array.nbytes <= _COPIED_BYTES and _IS_LITTLE and array.dtype.isnative and array.dtype != np.object_:
        return array.tobytes()
    if array.dtype == np.object_:
        return b"".join(struct.pack("<I", len(element)) + element for element in array.ravel())
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data


#: Rows that are ranked for one output.
MOST_RANKED = 10_000


def classification(array: Array, k: int, class_names: Sequence[str] | None) -> Array:
    """The `k` largest values along the last axis as BYTES "value:index[:label]", shape (…, k).

    `array` holds numbers. Of equal values the first comes first; NaN comes last. Raises `Invalid` for more than
    `MOST_RANKED` rows, whose texts would take seconds in which nobody else is answered.
    """
    if not array.size:
        # A shape such as [2**40, 0] takes no bytes, and would take for ever row by row.
        return np.empty((*array.shape[:-1], min(k, array.shape[-1])), dtype=np.object_)
    rows = array.reshape(math.prod(array.shape[:-1]), array.shape[-1]) if array.ndim else array.reshape(1, 1)
    if len(rows) > MOST_RANKED:
        raise Invalid(
            f"classification of {len(rows)} rows at once: at most {MOST_RANKED} are ranked; ask for the output without"
            " `classification`, or in several requests"
        )
    k = min(k, rows.shape[-1])
    result = np.empty((len(rows), k), dtype=np.object_)
    for row_number, row in enumerate(rows):
        # Descending; integers by their complement, since the negative of some is no integer of their type.
        falling = -row if row.dtype.kind == "f" else ~row
        for rank, index in enumerate(np.argsort(falling, kind="stable")[:k]):
            label = f":{class_names[index]}" if class_names and index < len(class_names) else ""
            value = f"{row[index]:f}" if row.dtype.kind == "f" else str(row[index])
            result[row_number, rank] = f"{value}:{index}{label}".encode()
    return result.reshape(*array.shape[:-1], k) if array.ndim else result.reshape(k)
