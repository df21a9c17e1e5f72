"""The tensors of a model: what they declare against the bytes they really have."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx import SparseTensorProto, TensorProto

from app.errors import InvalidModel, TooLarge
from app.intake.archive import MAX_RATIO, RATIO_FREE_BYTES, check_plain
from app.intake.artifacts import Limits
from app.intake.onnx_walk import Found

MAX_ELEMENTS = 2**63 - 1
#: Tens of times as many as the largest models have; each costs loaders hundreds of bytes, however few it holds.
MAX_TENSORS = 1_000_000
_KEYS = frozenset({"location", "offset", "length", "checksum"})

#: Bits of one element in `raw_data`; elements under a byte are packed.
_BITS: dict[int, int] = {
    TensorProto.FLOAT: 32,
    TensorProto.UINT8: 8,
    TensorProto.INT8: 8,
    TensorProto.UINT16: 16,
    TensorProto.INT16: 16,
    TensorProto.INT32: 32,
    TensorProto.INT64: 64,
    TensorProto.BOOL: 8,
    TensorProto.FLOAT16: 16,
    TensorProto.DOUBLE: 64,
    TensorProto.UINT32: 32,
    TensorProto.UINT64: 64,
    TensorProto.COMPLEX64: 64,
    TensorProto.COMPLEX128: 128,
    TensorProto.BFLOAT16: 16,
    TensorProto.FLOAT8E4M3FN: 8,
    TensorProto.FLOAT8E4M3FNUZ: 8,
    TensorProto.FLOAT8E5M2: 8,
    TensorProto.FLOAT8E5M2FNUZ: 8,
    TensorProto.FLOAT8E8M0: 8,
    TensorProto.UINT4: 4,
    TensorProto.INT4: 4,
    TensorProto.FLOAT4E2M1: 4,
    TensorProto.UINT2: 2,
    TensorProto.INT2: 2,
}

#: The typed field of each element type; `int32_data` where none is named.
_TYPED_FIELD: dict[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.COMPLEX64: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.COMPLEX128: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data",
    TensorProto.STRING: "string_data",
}
PAYLOAD_FIELDS = (
    "float_data",
    "int32_data",
    "string_data",
    "int64_data",
    "raw_data",
    "double_data",
    "uint64_data",
)
_COMPLEX = (TensorProto.COMPLEX64, TensorProto.COMPLEX128)


@dataclass(frozen=True)
class ExternalTensor:
    """A tensor whose `length` bytes lie at `offset` of `source`, a companion file of the upload.

    It may be the initializer of any graph, or of the model's main graph.
    """

    tensor: TensorProto
    is_initializer: bool
    in_main_graph: bool
    source: Path
    offset: int
    length: int


#: From the `location` a tensor names to the companion file; raises `InvalidModel` when there is none.
Locate = Callable[[str, str], Path]


class TensorChecker:
    """Checks tensors one by one, and collects those whose bytes lie in companion files."""

    def __init__(self, locate: Locate, source_bytes: int, limits: Limits) -> None:
        self.external: list[ExternalTensor] = []
        self._locate = locate
        self._source_bytes = source_bytes
        self._limits = limits
        self._external_bytes = 0
        self._tensors = 0

    def check(self, found: Found) -> None:
        """Raise `InvalidModel` unless the tensor or sparse tensor `found` has exactly the bytes it declares."""
        if isinstance(found.message, TensorProto):
            self._check_tensor(found.message, found)
        elif isinstance(found.message, SparseTensorProto):
            self._check_sparse(found.message, found)

    def _check_tensor(self, tensor: TensorProto, found: Found) -> None:
        self._tensors += 1
        if self._tensors > MAX_TENSORS:
            raise TooLarge(f"the model holds more than {MAX_TENSORS} tensors", field="file")
        label = _label(tensor, found)
        if tensor.data_type not in _BITS and tensor.data_type != TensorProto.STRING:
            raise InvalidModel(f"{label} is of element type {tensor.data_type}, which is not one known here")
        if tensor.HasField("segment"):
            raise InvalidModel(f"{label} is split into segments, which is not supported")
        elements = element_count(tensor.dims, label)
        if tensor.data_location == TensorProto.EXTERNAL:
            self._check_external(tensor, elements, label, found)
        elif tensor.external_data:
            raise InvalidModel(f"{label} names external data but does not declare its data as external")
        else:
            _check_payload(tensor, elements, label)

    def _check_external(self, tensor: TensorProto, elements: int, label: str, found: Found) -> None:
        if tensor.data_type == TensorProto.STRING:
            raise InvalidModel(f"{label} holds strings, which cannot be external data")
        if any(_filled(tensor, field) for field in PAYLOAD_FIELDS):
            raise InvalidModel(f"{label} holds its data both in the model and in an external file")
        entries = _entries(tensor, label)
        source = self._locate(entries.get("location", ""), label)
        declared = _raw_bytes(tensor, elements)
        offset = _integer(entries, "offset", 0, label)
        length = _integer(entries, "length", declared, label)
        if length != declared:
            raise InvalidModel(f"{label} declares {declared} bytes by its shape and {length} by its length")
        if offset + length > source.stat().st_size:
            raise InvalidModel(
                f"{label} wants bytes {offset} to {offset + length} of {entries['location'][:80]!r},"
                f" which has {source.stat().st_size}"
            )
        # Many tensors may name the same bytes: a small upload would grow without bound when they are copied.
        self._external_bytes += length
        if self._external_bytes > self._limits.unpacked_bytes:
            raise TooLarge(
                f"the model's external data comes to more than the {self._limits.unpacked_bytes} bytes allowed here",
                field="file",
            )
        self.external.append(
            ExternalTensor(
                tensor, found.is_initializer, found.is_initializer and len(found.ancestors) == 2, source, offset, length
            )
        )

    def _check_sparse(self, sparse: SparseTensorProto, found: Found) -> None:
        """The values and indices are checked as the tensors they are; here, what they unfold to."""
        label = _label(sparse.values, found)
        elements = element_count(sparse.dims, label)
        dense = _raw_bytes(sparse.values, elements) if sparse.values.data_type in _BITS else elements
        if dense > max(RATIO_FREE_BYTES, MAX_RATIO * self._source_bytes):
            raise TooLarge(f"{label} is sparse and would unfold to {dense} bytes when loaded", field="file")


def companions(members: dict[str, Path], model_name: str) -> Locate:
    """Finds external data among the other members of the archive, relative to the model's place in it."""
    folder = model_name.rpartition("/")[0]

    def locate(location: str, label: str) -> Path:
        check_plain(location, f"{label} has external data whose location", InvalidModel)
        name = location.removeprefix("./")
        name = f"{folder}/{name}" if folder else name
        if name == model_name or name not in members:
            raise InvalidModel(
                f"{label} has its data in {location[:80]!r}, which is not in the archive beside the model"
            )
        return members[name]

    return locate


def no_companions(location: str, label: str) -> Path:
    """For a bare `.onnx`: external data cannot be had."""
    raise InvalidModel(
        f"{label} has its data in another file; upload a .zip or .tar that holds the model together with its"
        " external-data files"
    )


def element_count(dims: Any, label: str) -> int:
    """The product of `dims`; raises `InvalidModel` for negative ones and for products over 63 bits."""
    if any(dim < 0 for dim in dims):
        raise InvalidModel(f"{label} has a negative dimension in its shape {_shape(dims)}")
    # Zeros are left out of the bound: other libraries multiply in an order in which they may come last.
    if math.prod(dim for dim in dims if dim) > MAX_ELEMENTS:
        raise InvalidModel(f"{label} has a shape whose size overflows: {_shape(dims)}")
    return math.prod(dims)


def float_weight_bytes(found: Found) -> int:
    """Bytes of FP32 weights: initializers, and values of Constant nodes; 0 for any other message."""
    tensor, node = found.message, found.node
    if not isinstance(tensor, TensorProto) or tensor.data_type != TensorProto.FLOAT or found.in_sparse_tensor:
        return 0
    constant = node is not None and node.op_type == "Constant"
    return 4 * math.prod(tensor.dims) if found.is_initializer or constant else 0


def _check_payload(tensor: TensorProto, elements: int, label: str) -> None:
    filled = [field for field in PAYLOAD_FIELDS if _filled(tensor, field)]
    if elements == 0 and not filled:
        return
    if len(filled) != 1:
        how = "no data" if not filled else "data in more than one field"
        raise InvalidModel(f"{label} declares shape {_shape(tensor.dims)} and has {how}")
    field = filled[0]
    if field == "raw_data" and tensor.data_type != TensorProto.STRING:
        expected, got, unit = _raw_bytes(tensor, elements), len(tensor.raw_data), "bytes"
    elif field == _TYPED_FIELD.get(tensor.data_type, "int32_data"):
        expected, got, unit = _typed_values(tensor, elements), len(getattr(tensor, field)), "values"
    else:
        raise InvalidModel(f"{label} keeps its data in {field}, which is not for its element type")
    if expected != got:
        raise InvalidModel(f"{label} declares shape {_shape(tensor.dims)}, that is {expected} {unit}, and has {got}")


def _filled(tensor: TensorProto, field: str) -> bool:
    return bool(len(getattr(tensor, field)))


def _raw_bytes(tensor: TensorProto, elements: int) -> int:
    return -(-elements * _BITS[tensor.data_type] // 8)


def _typed_values(tensor: TensorProto, elements: int) -> int:
    if tensor.data_type in _COMPLEX:
        return 2 * elements
    bits = _BITS.get(tensor.data_type, 8)
    return elements if bits >= 8 else -(-elements * bits // 8)


def _entries(tensor: TensorProto, label: str) -> dict[str, str]:
    entries: dict[str, str] = {}
    for entry in tensor.external_data:
        if entry.key not in _KEYS:
            raise InvalidModel(
                f"{label} has external data with the key {str(entry.key)[:80]!r}; known are {', '.join(sorted(_KEYS))}"
            )
        if entry.key in entries:
            raise InvalidModel(f"{label} has external data with the key {entry.key!r} twice")
        entries[entry.key] = entry.value
    if not isinstance(entries.get("location", ""), str):
        raise InvalidModel(f"{label} has external data whose location is not UTF-8 text")
    return entries


def _integer(entries: dict[str, str], key: str, default: int, label: str) -> int:
    value = entries.get(key)
    if value is None:
        return default
    if not (isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20):
        raise InvalidModel(f"{label} has external data whose {key} {str(value)[:80]!r} is not a non-negative integer")
    return int(value)


def _label(tensor: TensorProto, found: Found) -> str:
    """How messages call a tensor: by its name, else by the node that it is part of."""
    if tensor.name:
        return f"tensor {tensor.name[:80]!r}"
    node = found.node
    return "an unnamed tensor" if node is None else f"a tensor of node {(node.name or node.op_type)[:80]!r}"


def _shape(dims: Any) -> str:
    return str(list(dims[:16]))
