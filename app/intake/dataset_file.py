"""The canonical form of a dataset: an uncompressed `.npz`, written front to back, read by mapping it.

An `.npz` is a zip of `.npy` members; any NumPy reads ours. The same arrays always give the same bytes (fixed
times, fixed order), so that the file's digest identifies the content; and each array starts at a multiple of
64 bytes, so that it can be used where it lies.
"""

import json
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from app.digest import sha256_of
from app.engines.engine import NUMPY_TYPES, Array
from app.errors import InvalidDataset, TooLarge
from app.intake.artifacts import ArraySpec, CheckedDataset, Limits

LABEL = "label"
CLASS_NAMES_MEMBER = "class_names.json"
_ALIGNMENT = 64

# Zip records (APPNOTE 4.3): always in their 64-bit forms, so that the layout does not depend on the sizes.
_LOCAL = struct.Struct("<4s5H3I2H")
_LOCAL_64 = struct.Struct("<HHQQ")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_CENTRAL_64 = struct.Struct("<HHQQQ")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_END_64_LOCATOR = struct.Struct("<4sIQI")
_END = struct.Struct("<4s4H2IH")
_VERSION = 45
_UTF8 = 0x800
_EPOCH = (1 << 5) | 1  # 1980-01-01, the earliest date of a zip
_ALIGNING = 0xD935  # the extra field that Android's zipalign uses for the same purpose


@dataclass(frozen=True)
class Samples:
    """A dataset ready for use. All arrays are read-only and lie in the file until they are touched.

    `arrays`: the features by name, each `(samples, …)`. `labels`: `(samples,)` int64, or None.
    """

    arrays: dict[str, Array]
    labels: NDArray[np.int64] | None
    class_names: tuple[str, ...] | None

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))


class _Member:
    """Where a member lies, and how much of it has been written."""

    def __init__(self, name: str, offset: int, header: bytes, content_bytes: int) -> None:
        self.name = name.encode()
        self.offset = offset
        self.header = header
        self.size = len(header) + content_bytes
        padding = -(offset + _LOCAL.size + len(self.name) + _LOCAL_64.size + 4) % _ALIGNMENT
        self.padding = struct.pack("<HH", _ALIGNING, padding) + bytes(padding)
        self.start = offset + _LOCAL.size + len(self.name) + _LOCAL_64.size + len(self.padding)
        self.position = self.start + len(header)
        self.end = self.start + self.size
        self.crc = zlib.crc32(header)

    def local_record(self) -> bytes:
        full = 0xFFFFFFFF
        extra = _LOCAL_64.size + len(self.padding)
        head = _LOCAL.pack(b"PK\x03\x04", _VERSION, _UTF8, 0, 0, _EPOCH, self.crc, full, full, len(self.name), extra)
        return head + self.name + _LOCAL_64.pack(1, 16, self.size, self.size) + self.padding

    def central_record(self) -> bytes:
        full = 0xFFFFFFFF
        head = _CENTRAL.pack(
            *(b"PK\x01\x02", _VERSION, _VERSION, _UTF8, 0, 0, _EPOCH, self.crc, full, full),
            *(len(self.name), _CENTRAL_64.size, 0, 0, 0, 0, full),
        )
        return head + self.name + _CENTRAL_64.pack(1, 24, self.size, self.size, self.offset)


class DatasetWriter:
    """Writes a canonical dataset whose arrays are known by shape and dtype, and arrive in any interleaving.

    Each array is given front to back in pieces, different arrays in any order, so that neither a wide table
    nor a long array has to fit in memory. Leaving the `with` block completes the file.
    """

    def __init__(
        self, path: Path, specs: Iterable[ArraySpec], limits: Limits, class_names: tuple[str, ...] | None = None
    ) -> None:
        """Lay out the file; raises `TooLarge` when it would come to more than `limits.unpacked_bytes`."""
        self._path = path
        self._specs = tuple(sorted(specs, key=lambda spec: spec.name))
        self._class_names = class_names
        self._members: dict[str, _Member] = {}
        self._dtypes = {spec.name: NUMPY_TYPES[spec.dtype] for spec in self._specs}
        offset = 0
        for spec in self._specs:
            dtype = self._dtypes[spec.name]
            content_bytes = dtype.itemsize * math.prod(spec.shape)
            member = _Member(f"{spec.name}.npy", offset, _npy_header(dtype, spec.shape), content_bytes)
            self._members[spec.name] = member
            offset = member.end
        self._trailing = None
        if class_names is not None:
            names = json.dumps(list(class_names), ensure_ascii=False).encode()
            self._trailing = _Member(CLASS_NAMES_MEMBER, offset, names, 0)
            offset = self._trailing.end
        if offset > limits.unpacked_bytes:
            raise TooLarge(
                f"the dataset comes to {offset} bytes as arrays; at most {limits.unpacked_bytes} are allowed here",
                field="file",
            )
        self._end = offset
        self._file = path.open("xb")

    def write(self, name: str, chunk: Array) -> None:
        """Append `chunk`, whole samples or any run of elements in C order, to the array `name`."""
        if chunk.dtype != self._dtypes[name]:
            raise ValueError(f"{name!r} is {self._dtypes[name]}, and {chunk.dtype} was written to it")
        content = np.ascontiguousarray(chunk).view(np.uint8).reshape(-1).data
        member = self._members[name]
        if member.position + len(content) > member.end:
            raise ValueError(f"more was written to {name!r} than its shape holds")
        member.crc = zlib.crc32(content, member.crc)
        self._file.seek(member.position)
        self._file.write(content)
        member.position += len(content)

    def checked(self) -> CheckedDataset:
        """What was written, once the `with` block has been left."""
        return CheckedDataset(
            path=self._path,
            digest=sha256_of(self._path),
            size_bytes=self._path.stat().st_size,
            samples=self._specs[0].shape[0],
            arrays=tuple(spec for spec in self._specs if spec.name != LABEL),
            labelled=LABEL in self._members,
            class_names=self._class_names,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if error is None:
                self._complete()

    def _complete(self) -> None:
        members = [*self._members.values(), *([self._trailing] if self._trailing else [])]
        for member in members:
            if member.position != member.end:
                raise ValueError(f"less was written to {member.name!r} than its shape holds")
            self._file.seek(member.offset)
            self._file.write(member.local_record() + member.header)
        self._file.seek(self._end)
        central = b"".join(member.central_record() for member in members)
        count, full = len(members), 0xFFFFFFFF
        self._file.write(central)
        self._file.write(
            _END_64.pack(b"PK\x06\x06", 44, _VERSION, _VERSION, 0, 0, count, count, len(central), self._end)
        )
        self._file.write(_END_64_LOCATOR.pack(b"PK\x06\x07", 0, self._end + len(central), 1))
        short = min(count, 0xFFFF)
        self._file.write(_END.pack(b"PK\x05\x06", 0, 0, short, short, full, full, 0))


def open_dataset(path: Path) -> Samples:
    """Map the canonical dataset at `path`. Raises `InvalidDataset` for a file that is not one."""
    arrays: dict[str, Array] = {}
    class_names = None
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as opened:
            for info in archive.infolist():
                if info.filename == CLASS_NAMES_MEMBER:
                    class_names = tuple(json.loads(archive.read(info)))
                else:
                    arrays[info.filename.removesuffix(".npy")] = _mapped(path, opened, info)
    except (zipfile.BadZipFile, ValueError, KeyError, struct.error) as error:
        raise InvalidDataset("the file is not a dataset in canonical form") from error
    labels = arrays.pop(LABEL, None)
    if not arrays:
        raise InvalidDataset("the file is not a dataset in canonical form: it has no arrays")
    return Samples(arrays, labels, class_names)


def _mapped(path: Path, opened: BinaryIO, info: zipfile.ZipInfo) -> Array:
    """The array of a stored member, read-only, where it lies in the file."""
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError("a canonical dataset is not compressed")
    opened.seek(info.header_offset + _LOCAL.size - 4)
    name_bytes, extra_bytes = struct.unpack("<HH", opened.read(4))
    opened.seek(name_bytes + extra_bytes, os.SEEK_CUR)
    if npy_format.read_magic(opened) != (1, 0):
        raise ValueError("a canonical dataset has .npy members of version 1.0")
    shape, _, dtype = npy_format.read_array_header_1_0(opened)
    if dtype.hasobject or opened.tell() + dtype.itemsize * math.prod(shape) > path.stat().st_size:
        raise ValueError("a member is not what its header says")
    return np.asarray(np.memmap(path, dtype, "r", opened.tell(), shape))


def _npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """The head of a `.npy` of version 1.0, in C order, filled up to a multiple of 64 bytes."""
    text = f"{{'descr': {dtype.str!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode("ascii")
    filling = -(10 + len(text) + 1) % _ALIGNMENT
    text += b" " * filling + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text
