"""Datasets that are arrays already: `.npz` and `.npy`.

Headers are parsed, pickles never: the members are read as plain bytes, in pieces, straight into the canonical
file, so that neither a large dataset nor a header that claims to be one takes memory.
"""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from tokenize import TokenError
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy_format

from app.engines.engine import OIP_NAMES, Array
from app.errors import InvalidDataset
from app.intake.archive import Source, ZipUpload, open_zip
from app.intake.artifacts import ArraySpec, CheckedDataset, Limits
from app.intake.dataset_file import CLASS_NAMES_MEMBER, LABEL, DatasetWriter

if TYPE_CHECKING:
    from app.intake.preprocess import ArrayPreprocess

CHUNK_BYTES = 8 * 1024**2
_HEADER_BYTES = 16 * 1024
_MAX_CLASS_NAMES_BYTES = 4 * 1024**2
_READ_HEADER = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
#: What NumPy raises for a header that is not one.
_BAD_HEADER = (ValueError, SyntaxError, TypeError, KeyError, TokenError, RecursionError, OverflowError)

Opener = Callable[[], AbstractContextManager[Source]]


@dataclass(frozen=True)
class _Stored:
    """An array as it lies in the upload: `open` gives its `.npy` bytes, of which the header takes the first."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    header_bytes: int
    open: Opener

    @property
    def is_label(self) -> bool:
        return self.name == LABEL

    @property
    def spec(self) -> ArraySpec:
        return ArraySpec(self.name, "INT64" if self.is_label else OIP_NAMES[_native(self.dtype)], self.shape)


def read_npz(source: Path, target: Path, limits: Limits, _: None) -> CheckedDataset:
    """Check an `.npz` and write it to `target` in canonical form. Raises `InvalidDataset` or `TooLarge`."""
    with open_zip(source, limits, InvalidDataset, plain_names=False) as upload:
        arrays = [_stored(*each) for each in _members(upload)]
        return _written(arrays, target, limits, _class_names(upload))


def read_npy(source: Path, target: Path, limits: Limits, options: "ArrayPreprocess") -> CheckedDataset:
    """Check a `.npy`, whose one array gets the name in `options`, and write it to `target`; see `read_npz`."""
    return _written([_stored(options.input, source.stat().st_size, lambda: source.open("rb"))], target, limits, None)


def _members(upload: ZipUpload) -> Iterator[tuple[str, int, Opener]]:
    for member in upload.names:
        if member == CLASS_NAMES_MEMBER:
            continue
        name = member.removesuffix(".npy")
        if not name or name == member:
            raise InvalidDataset(f"the .npz holds {member[:80]!r}, which is not an array (.npy)")
        yield name, upload.size_of(member), lambda member=member: upload.open(member)  # type: ignore[misc]


def _class_names(upload: ZipUpload) -> tuple[str, ...] | None:
    """The class names that a canonical file carries; other `.npz` have none."""
    if CLASS_NAMES_MEMBER not in upload.names:
        return None
    with upload.open(CLASS_NAMES_MEMBER) as content:
        text = _exactly(content, min(upload.size_of(CLASS_NAMES_MEMBER), _MAX_CLASS_NAMES_BYTES))
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidDataset(f"{CLASS_NAMES_MEMBER} in the .npz is not a JSON list of names")
    return tuple(names)


def _stored(name: str, size: int, opener: Opener) -> _Stored:
    """The array called `name`, its header read and checked against the `size` in bytes of what holds it."""
    with opener() as content:
        head = BytesIO(_exactly(content, min(size, _HEADER_BYTES)))
    try:
        shape, fortran, dtype = _READ_HEADER[npy_format.read_magic(head)](head)
    except _BAD_HEADER as error:
        raise InvalidDataset(f"array {name[:80]!r} is not a readable .npy: its header is damaged") from error
    _check_dtype(name, dtype)
    _check_shape(name, shape)
    claimed, there = dtype.itemsize * math.prod(shape), size - head.tell()
    if claimed != there:
        raise InvalidDataset(
            f"array {name[:80]!r} claims to be {dtype} of shape {shape}, that is {claimed} bytes, and has {there}"
        )
    return _Stored(name, dtype, shape, fortran and len(shape) > 1, head.tell(), opener)


def _check_dtype(name: str, dtype: np.dtype[Any]) -> None:
    if dtype.hasobject:
        raise InvalidDataset(
            f"array {name[:80]!r} holds pickled Python objects, which are never loaded; save it with a numeric dtype"
        )
    if _native(dtype) not in OIP_NAMES:
        kinds = {"c": "complex", "M": "datetime", "m": "timedelta", "U": "text", "S": "bytes", "V": "structured"}
        raise InvalidDataset(
            f"array {name[:80]!r} is {kinds.get(dtype.kind, 'of')} dtype {str(dtype)[:80]}; bool, integers and"
            " float16, float32, float64 are accepted"
        )
    if name == LABEL and dtype.kind not in "biuf":
        raise InvalidDataset(f"the labels are {dtype}; they must be integers")


def _check_shape(name: str, shape: tuple[int, ...]) -> None:
    if not shape:
        raise InvalidDataset(f"array {name[:80]!r} is a single value; its first axis must be the samples")
    if any(isinstance(size, bool) or size < 0 for size in shape) or len(shape) > 32:
        raise InvalidDataset(f"array {name[:80]!r} has the impossible shape {shape}")
    if shape[0] == 0:
        raise InvalidDataset(f"array {name[:80]!r} has no samples; a dataset needs at least 1")
    if 0 in shape:
        raise InvalidDataset(f"array {name[:80]!r} has shape {shape}, in which an axis is of length 0")
    if name == LABEL and len(shape) != 1:
        raise InvalidDataset(f"the labels have shape {shape}; they must be 1-D, one integer for each sample")


def _written(
    arrays: list[_Stored], target: Path, limits: Limits, class_names: tuple[str, ...] | None
) -> CheckedDataset:
    if all(array.is_label for array in arrays):
        raise InvalidDataset("the dataset holds no array beside labels; name its arrays after the model's inputs")
    if len({array.shape[0] for array in arrays}) > 1:
        counts = ", ".join(f"{array.name[:80]!r}: {array.shape[0]}" for array in arrays[:8])
        raise InvalidDataset(f"the arrays differ in their number of samples, the first axis ({counts})")
    if class_names is not None and not any(array.is_label for array in arrays):
        raise InvalidDataset(f"the .npz has {CLASS_NAMES_MEMBER} and no labels that they could name")
    with DatasetWriter(target, [array.spec for array in arrays], limits, class_names) as writer:
        for array in arrays:
            start = 0
            for chunk in _chunks(array, target.parent):
                writer.write(array.name, _checked(array, chunk, start))
                start += chunk.size
    return writer.checked()


def _chunks(array: _Stored, scratch: Path) -> Iterator[Array]:
    """The elements of `array` in C order, in flat pieces of whole elements."""
    if not array.fortran:
        for content in _contents(array):
            yield np.frombuffer(content, array.dtype)
        return
    # Fortran order: what comes first in C order lies all over the file, so it is unpacked and mapped.
    with TemporaryFile(dir=scratch) as spool:
        for content in _contents(array):
            spool.write(content)
        spool.flush()
        mapped = np.memmap(spool, array.dtype, "r", 0, array.shape, "F")
        rows = max(1, CHUNK_BYTES // (array.dtype.itemsize * math.prod(array.shape[1:])))
        for start in range(0, array.shape[0], rows):
            yield np.ascontiguousarray(mapped[start : start + rows]).reshape(-1)


def _contents(array: _Stored) -> Iterator[bytes]:
    step = CHUNK_BYTES // array.dtype.itemsize * array.dtype.itemsize
    left = array.dtype.itemsize * math.prod(array.shape)
    with array.open() as content:
        _exactly(content, array.header_bytes)
        while left:
            chunk = _exactly(content, min(step, left))
            if len(chunk) < min(step, left):
                raise InvalidDataset(f"array {array.name[:80]!r} is truncated")
            left -= len(chunk)
            yield chunk
        content.read(1)  # past the end, where a zip's checksum is compared


def _checked(array: _Stored, chunk: Array, start: int) -> Array:
    """`chunk`, whose first element is number `start` of `array`, in its canonical dtype."""
    if array.dtype.kind == "f" and not np.isfinite(chunk).all():
        element = start + int(np.flatnonzero(~np.isfinite(chunk))[0])
        sample = element // math.prod(array.shape[1:])
        raise InvalidDataset(
            f"array {array.name[:80]!r} holds NaN or infinity, first in sample {sample} (counted from 0)"
        )
    if array.is_label:
        return checked_labels(chunk, start)
    if array.dtype.kind == "b":
        truth: Array = chunk.view(np.uint8) != 0  # a bool byte may hold anything
        return truth
    return chunk.astype(_native(array.dtype), copy=False)


def checked_labels(labels: Array, start: int = 0) -> Array:
    """Finite numbers `labels`, of samples from `start` on, as int64; raises `InvalidDataset` if any is no class."""
    wrong = (labels < 0) | (labels > 2**31 - 1) | (labels != np.floor(labels) if labels.dtype.kind == "f" else False)
    if np.any(wrong):
        first = int(np.flatnonzero(wrong)[0])
        raise InvalidDataset(
            f"the label of sample {start + first} is {labels[first]}; labels must be non-negative integers"
        )
    return labels.astype(np.int64)


def _exactly(content: Source, count: int) -> bytes:
    """`count` bytes, or fewer at the end of `content`."""
    pieces = []
    while count and (piece := content.read(count)):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def _native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("=")
