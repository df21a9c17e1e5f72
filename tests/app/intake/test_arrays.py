import io
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import hypothesis.extra.numpy as arrays_of
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.engines.engine import OIP_NAMES
from app.errors import InvalidDataset, TooLarge
from app.intake import arrays
from app.intake.artifacts import ArraySpec, Limits
from app.intake.dataset_file import open_dataset
from tests.app.intake.archives import zip_of
from tests.app.intake.conftest import Room

Arrays = Mapping[str, NDArray[Any]]


def npz(content: Arrays, *, save: Callable[..., None] = np.savez) -> bytes:
    made = io.BytesIO()
    save(made, **content)
    return made.getvalue()


def npy(array: NDArray[Any], **how: Any) -> bytes:
    made = io.BytesIO()
    np.save(made, array, **how)
    return made.getvalue()


def npy_with_header(header: str, content: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode() + b"\n"
    length = struct.pack("<H", len(text)) if version[0] == 1 else struct.pack("<I", len(text))
    return b"\x93NUMPY" + version + length + text + content


@st.composite
def datasets(draw: st.DrawFn) -> dict[str, NDArray[Any]]:
    """One to three arrays of any accepted dtype, byte order, memory order and rank, and perhaps labels."""
    samples = draw(st.integers(1, 5))
    names = draw(st.lists(st.text("abcXYZ_./:é-0", min_size=1, max_size=8), min_size=1, max_size=3, unique=True))
    content: dict[str, NDArray[Any]] = {}
    for name in names:
        dtype = draw(
            st.one_of(
                arrays_of.boolean_dtypes(),
                arrays_of.integer_dtypes(endianness="?"),
                arrays_of.unsigned_integer_dtypes(endianness="?"),
                arrays_of.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
            )
        )
        inner = draw(arrays_of.array_shapes(min_dims=0, max_dims=3, max_side=4)) if draw(st.booleans()) else ()
        finite = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else None
        array = draw(arrays_of.arrays(dtype, (samples, *inner), elements=finite))
        content[name] = np.asfortranarray(array) if draw(st.booleans()) else array
    if draw(st.booleans()):
        kind = draw(st.sampled_from([np.int64, np.uint8, np.float32, np.int16]))
        content["label"] = draw(arrays_of.arrays(kind, samples, elements=st.integers(0, 100)))
    return content


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=datasets(), compressed=st.booleans())
def test_what_is_uploaded_is_what_is_opened(room: Room, content: dict[str, NDArray[Any]], compressed: bool) -> None:
    room.clear()
    checked = room.dataset("d.npz", npz(content, save=np.savez_compressed if compressed else np.savez))
    opened = open_dataset(checked.path)
    labels = content.pop("label", None)
    assert checked.labelled == (labels is not None)
    assert opened.arrays.keys() == content.keys()
    for name, array in content.items():
        got = opened.arrays[name]
        assert got.dtype == array.dtype.newbyteorder("=")
        assert got.flags.c_contiguous
        assert got.flags.aligned
        assert not got.flags.writeable
        np.testing.assert_array_equal(got, array)
    assert checked.arrays == tuple(
        ArraySpec(name, OIP_NAMES[array.dtype.newbyteorder("=")], array.shape)
        for name, array in sorted(content.items())
    )
    assert len(opened) == checked.samples
    if labels is not None:
        assert opened.labels is not None
        assert opened.labels.dtype == np.int64
        np.testing.assert_array_equal(opened.labels, labels)
    with np.load(checked.path) as loaded:
        assert set(loaded.files) - {"label"} == content.keys()


def test_the_same_content_has_the_same_digest_however_it_was_saved(room: Room) -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    y = np.arange(3, dtype=np.int64)
    uploads = [
        npz({"x": x, "y": y}),
        npz({"y": y, "x": x}, save=np.savez_compressed),
        npz({"x": np.asfortranarray(x), "y": y.astype(">i8")}),
    ]
    digests = set()
    for upload in uploads:
        checked = room.dataset("d.npz", upload)
        digests.add(checked.digest)
        again = checked.path.read_bytes()
        room.clear()
    digests.add(room.dataset("d.npz", again).digest)
    room.clear()
    assert len(digests) == 1
    assert room.dataset("d.npz", npz({"x": x + 1, "y": y})).digest not in digests


def test_arrays_larger_than_a_chunk_are_read_in_pieces(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "CHUNK_BYTES", 100)
    x = np.random.default_rng(0).normal(size=(50, 7))
    content = {"c": x, "f": np.asfortranarray(x), "label": np.arange(50)}
    opened = open_dataset(room.dataset("d.npz", npz(content, save=np.savez_compressed)).path)
    np.testing.assert_array_equal(opened.arrays["c"], x)
    np.testing.assert_array_equal(opened.arrays["f"], x)
    x[33, 5] = np.inf
    for wrong in (x, np.asfortranarray(x)):
        room.clear()
        with pytest.raises(InvalidDataset, match="'x' holds NaN or infinity, first in sample 33"):
            room.dataset("d.npz", npz({"x": wrong}))
    room.clear()
    with pytest.raises(InvalidDataset, match="label of sample 49 is -1"):
        room.dataset("d.npz", npz({"c": np.zeros(50), "label": np.append(np.arange(49), -1)}))


def test_a_npy_is_called_input_unless_preprocess_says_otherwise(room: Room) -> None:
    content = npy(np.ones((3, 2), np.float32))
    assert room.dataset("d.npy", content).arrays == (ArraySpec("input", "FP32", (3, 2)),)
    room.clear()
    assert room.dataset("d.npy", content, '{"input": "pixels"}').arrays[0].name == "pixels"


def test_bool_bytes_other_than_one_are_true(room: Room) -> None:
    content = npy_with_header("{'descr': '|b1', 'fortran_order': False, 'shape': (3,), }", b"\x00\x01\x07")
    opened = open_dataset(room.dataset("d.npy", content).path)
    assert opened.arrays["input"].view(np.uint8).tolist() == [0, 1, 1]


class _Opened:
    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("loaded", "w")  # a file in the working folder, which the room would notice


def _claiming(shape: str, descr: str = "<f4") -> bytes:
    return npy_with_header(f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}", b"\x00" * 64)


def _nan(kind: float) -> bytes:
    x = np.zeros((4, 3), np.float32)
    x[2, 1] = kind
    return npz({"fine": np.zeros(4), "x": x})


X = np.zeros((4, 3), np.float32)

WRONG_ARRAYS: list[tuple[str, bytes, str]] = [
    ("d.npz", b"", "empty"),
    ("d.npy", b"", "empty"),
    ("d.txt", npz({"x": X}), r"accepted are \.npz"),
    ("d", npz({"x": X}), "accepted are"),
    ("d.npz", b"not a zip", "zip"),
    ("d.npz", npz({"x": X})[:-40], "truncated"),
    ("d.npz", npy(X), "zip"),
    ("d.npz", zip_of({}), "no array"),
    ("d.npz", zip_of({"x.txt": b"1"}), "not an array"),
    ("d.npz", zip_of({".npy": npy(X)}), "not an array"),
    ("d.npz", zip_of({"x.npy": b"junk"}), "'x' is not a readable .npy"),
    ("d.npz", zip_of({"x.npy": npy(X)[:100]}), "'x'"),
    ("d.npz", zip_of({"x.npy": npy(X) + b"more"}), "48 bytes, and has 52"),
    ("d.npz", zip_of({"x.npy": pickle.dumps(_Opened())}), "not a readable .npy"),
    ("d.npz", npz({"x": np.array([{"a": 1}, None], dtype=object)}), "pickled Python objects"),
    ("d.npz", npz({"x": X, "label": np.array([_Opened()] * 4, dtype=object)}), "pickled Python objects"),
    ("d.npy", npy(np.array([_Opened()], dtype=object), allow_pickle=True), "pickled Python objects"),
    ("d.npy", npy(X)[:-1], "48 bytes, and has 47"),
    ("d.npy", b"\x93NUMPY", "not a readable"),
    ("d.npy", npy(X).replace(b"\x93NUMPY\x01", b"\x93NUMPY\x07"), "not a readable"),
    ("d.npy", _claiming("(250000000000,)"), "1000000000000 bytes, and has 64"),
    ("d.npy", _claiming(f"({2**62}, {2**62})"), "and has 64"),
    ("d.npy", _claiming("(-4, -4)"), "impossible shape"),
    ("d.npy", _claiming("(True, 16)"), "impossible shape"),
    ("d.npy", _claiming("'x'"), "not a readable"),
    ("d.npy", _claiming("(4,4)", "__import__('os')"), "not a readable"),
    ("d.npy", _claiming("(" * 5000 + ")" * 5000), "not a readable"),
    ("d.npy", npy_with_header("{'descr': '<f4'}"), "not a readable"),
    ("d.npy", npy_with_header("{" + " " * 60000), "not a readable"),
    ("d.npz", npz({"x": np.zeros((4, 2), np.complex64)}), "'x' is complex dtype"),
    ("d.npz", npz({"x": np.zeros(4, "M8[s]")}), "'x' is datetime dtype"),
    ("d.npz", npz({"x": np.array(["a", "b"])}), "'x' is text dtype"),
    ("d.npz", npz({"x": np.array([b"a", b"b"])}), "'x' is bytes dtype"),
    ("d.npz", npz({"x": np.zeros(4, [("a", "f4")])}), "'x' is structured dtype"),
    ("d.npz", npz({"x": np.float32(3)}), "single value"),
    ("d.npz", npz({"x": np.zeros((0, 3), np.float32)}), "no samples"),
    ("d.npz", npz({"x": np.zeros((3, 0), np.float32)}), "length 0"),
    ("d.npz", npz({"x": X, "y": np.zeros(5)}), r"number of samples.*'x': 4, 'y': 5"),
    ("d.npz", npz({"x": X, "label": np.zeros(5, int)}), "number of samples"),
    ("d.npz", npz({"label": np.zeros(5, int)}), "no array beside labels"),
    ("d.npz", _nan(np.nan), r"'x' holds NaN or infinity, first in sample 2 \(counted from 0\)"),
    ("d.npz", _nan(np.inf), "first in sample 2"),
    ("d.npz", _nan(-np.inf), "first in sample 2"),
    ("d.npz", npz({"x": X, "label": np.array([0, 1, -1, 0])}), "label of sample 2 is -1"),
    ("d.npz", npz({"x": X, "label": np.array([0, 1.5, 1, 0])}), "label of sample 1 is 1.5"),
    ("d.npz", npz({"x": X, "label": np.array([0, 1, 1, np.nan])}), "NaN"),
    ("d.npz", npz({"x": X, "label": np.array([0, 1, 2**63, 0], np.uint64)}), "label of sample 2"),
    ("d.npz", npz({"x": X, "label": np.zeros((4, 1), int)}), "must be 1-D"),
    ("d.npz", npz({"x": X, "label": np.array(["a"] * 4)}), "text dtype"),
    ("d.npz", zip_of({"x.npy": npy(X), "class_names.json": b'["a"]'}), "no labels"),
    ("d.npz", zip_of({"x.npy": npy(X), "label.npy": npy(np.zeros(4, int)), "class_names.json": b"{}"}), "JSON list"),
]


@pytest.mark.parametrize(("filename", "content", "words"), WRONG_ARRAYS)
def test_arrays_that_cannot_be_used_are_refused_with_the_reason(
    room: Room, filename: str, content: bytes, words: str
) -> None:
    with pytest.raises(InvalidDataset, match=words) as refused:
        room.dataset(filename, content)
    assert refused.value.field == "file"
    assert str(room.path) not in refused.value.detail


@pytest.mark.parametrize(
    ("filename", "content", "preprocess"),
    [
        ("d.npz", npz({"x": X}), '{"input": "x"}'),
        ("d.npy", npy(X), '{"inputs": "x"}'),
        ("d.npy", npy(X), '{"input": ""}'),
        ("d.npy", npy(X), "input=x"),
        ("d.npy", npy(X), "[" * 100_000),
    ],
)
def test_a_wrong_preprocess_is_the_field_at_fault(room: Room, filename: str, content: bytes, preprocess: str) -> None:
    with pytest.raises(InvalidDataset) as refused:
        room.dataset(filename, content, preprocess)
    assert refused.value.field == "preprocess"


def test_a_bomb_of_zeros_is_stopped(room: Room) -> None:
    size = 80 * 1024**2
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size},), }}"
    bomb = zip_of({"x.npy": npy_with_header(header, bytes(size))}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(TooLarge, match="bomb"):
        room.dataset("d.npz", bomb)


@pytest.mark.parametrize(
    ("filename", "content"),
    [("d.npy", npy(np.zeros((100, 100)))), ("d.npz", npz({"x": np.zeros((100, 100))}))],
)
def test_a_dataset_over_the_limit_is_refused_before_it_is_written(room: Room, filename: str, content: bytes) -> None:
    room.limits = Limits(60, 10_000)
    with pytest.raises(TooLarge, match="10000"):
        room.dataset(filename, content)
    assert not list(room.folder.iterdir())
