import math
import tracemalloc

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from app.engines.engine import NUMPY_TYPES, Array
from app.errors import Invalid
from app.inference import tensors

NUMERIC = [name for name in NUMPY_TYPES if name not in {"BYTES", "FP16"}]

shapes = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)


def arrays(datatype: str, *, finite: bool) -> st.SearchStrategy[Array]:
    dtype = NUMPY_TYPES[datatype]
    if finite and dtype.kind == "f":
        width = 8 * dtype.itemsize
        elements = st.floats(allow_nan=False, allow_infinity=False, width=width)  # type: ignore[arg-type]
        return npst.arrays(dtype, shapes, elements=elements)
    return npst.arrays(dtype, shapes)


@given(
    st.sampled_from([name for name in NUMPY_TYPES if name != "BYTES"]).flatmap(
        lambda name: st.tuples(st.just(name), arrays(name, finite=False))
    )
)
def test_binary_form_round_trips_bit_for_bit(case: tuple[str, Array]) -> None:
    datatype, array = case
    raw = memoryview(bytes(tensors.to_bytes(array)))
    back = tensors.from_bytes("x", datatype, array.shape, raw)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


@given(st.sampled_from(NUMERIC).flatmap(lambda name: st.tuples(st.just(name), arrays(name, finite=True))))
def test_json_form_round_trips_nested_or_flat(case: tuple[str, Array]) -> None:
    datatype, array = case
    written = orjson.loads(orjson.dumps(tensors.to_json(array), option=orjson.OPT_SERIALIZE_NUMPY))
    for values in (written, array.tolist() if array.ndim else [array.item()]):
        back = tensors.from_json("x", datatype, array.shape, values)
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)


@given(st.lists(st.binary(max_size=20), max_size=6))
def test_bytes_round_trip_in_binary_form(elements: list[bytes]) -> None:
    array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    back = tensors.from_bytes("x", "BYTES", (len(elements),), memoryview(bytes(tensors.to_bytes(array))))
    assert back.tolist() == elements


@given(st.binary(max_size=40), st.integers(0, 5))
def test_arbitrary_bytes_are_read_or_refused(raw: bytes, count: int) -> None:
    try:
        array = tensors.from_bytes("x", "BYTES", (count,), memoryview(raw))
    except Invalid:
        return
    assert bytes(tensors.to_bytes(array)) == raw


def test_a_numeric_tensor_is_a_view_on_the_body() -> None:
    body = np.arange(6, dtype=np.float32).tobytes()
    array = tensors.from_bytes("x", "FP32", (2, 3), memoryview(body))
    assert not array.flags.owndata
    assert np.shares_memory(array, np.frombuffer(body, dtype=np.uint8))


def test_values_without_a_json_form_become_null() -> None:
    values = tensors.to_json(np.array([1.0, math.nan, math.inf], dtype=np.float32))
    assert orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY) == b"[1.0,null,null]"


@pytest.mark.parametrize(
    "shape", [None, 3, "3", [-1], [1.0], [True], [2**41], [2**40, 2**40], [2**62, 0], [1] * 33, [[1]]]
)
def test_a_shape_that_no_tensor_has_is_refused(shape: object) -> None:
    with pytest.raises(Invalid):
        tensors.checked_shape("x", shape)


@pytest.mark.parametrize(
    ("datatype", "shape", "values", "words"),
    [
        ("FP32", (2,), [1.0], "unexpected size"),
        ("FP32", (1,), ["1"], "is not a FP32"),
        ("FP32", (1,), [None], "is not a FP32"),
        ("FP32", (1,), [True], "is not a FP32"),
        ("FP32", (1,), {"0": 1}, "must be a list"),
        ("INT8", (1,), [128], "-128 to 127"),
        ("UINT64", (1,), [-1], "0 to"),
        ("INT32", (1,), [1.5], "is not a INT32"),
        ("BOOL", (1,), [1], "is not a BOOL"),
        ("BYTES", (1,), [1], "strings"),
        ("FP16", (1,), [1.0], "binary"),
        ("FP64", (1,), [10**400], "no FP64"),
    ],
)
def test_json_values_that_do_not_fit_are_refused(
    datatype: str, shape: tuple[int, ...], values: object, words: str
) -> None:
    with pytest.raises(Invalid, match=words):
        tensors.from_json("x", datatype, shape, values)


def test_deep_nesting_is_refused_without_recursion() -> None:
    values: list[object] = [1.0]
    for _ in range(100_000):
        values = [values]
    with pytest.raises(Invalid, match="nested"):
        tensors.from_json("x", "FP32", (1,), values)
    while isinstance(values[0], list):
        values = values[0]  # undone step by step: a list so deep cannot be freed recursively everywhere


@pytest.mark.parametrize(
    ("raw", "count"), [(b"\x00", 1), (b"\x05\x00\x00\x00ab", 1), (b"\xff\xff\xff\xff", 1), (b"", 1), (b"\x00" * 8, 1)]
)
def test_cut_or_surplus_string_data_is_refused(raw: bytes, count: int) -> None:
    with pytest.raises(Invalid, match="unexpected size"):
        tensors.from_bytes("x", "BYTES", (count,), memoryview(raw))


def test_an_unknown_datatype_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Invalid, match="FP32"):
        tensors.checked_datatype("x", "FLOAT")


def test_bf16_is_the_upper_half_of_an_fp32() -> None:
    values = np.array([[1.0, -2.5], [math.inf, 3.0e38]], dtype=np.float32)
    upper = (values.view(np.uint32) >> 16).astype("<u2")
    array = tensors.from_bytes("x", "BF16", (2, 2), memoryview(upper.tobytes()))
    assert array.dtype == np.float32
    assert (array.view(np.uint32) == upper.astype(np.uint32) << 16).all()
    np.testing.assert_allclose(array, values, rtol=2**-7)
    with pytest.raises(Invalid, match="unexpected size: got 8 bytes, and shape \\[3\\] of BF16 takes 6"):
        tensors.from_bytes("x", "BF16", (3,), memoryview(upper.tobytes()))


def test_no_memory_is_taken_for_a_claimed_shape() -> None:
    tracemalloc.start()
    try:
        for datatype in ("FP32", "BOOL", "BF16", "BYTES"):
            with pytest.raises(Invalid, match="unexpected size"):
                tensors.from_bytes("x", datatype, (2**20, 2**20), memoryview(b"\x00" * 8))
        with pytest.raises(Invalid, match="unexpected size"):
            tensors.from_json("x", "FP32", (2**20, 2**20), [1.0])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int64", "float32", "float16"])
def test_the_largest_are_classified_first_in_any_type_of_number(dtype: str) -> None:
    row = np.array([0, 5, 5, np.iinfo(dtype).min if dtype.startswith("int") else 1, 7], dtype=dtype)
    top = tensors.classification(row[None], 9, ["a", "b"])
    assert top.shape == (1, 5)
    order = [int(each.split(b":")[1]) for each in top[0]]
    assert order[:3] == [4, 1, 2]
    assert order[-1] == (3 if dtype.startswith("int") else 0)
    assert top[0][1] == (b"5:1:b" if "int" in dtype else b"5.000000:1:b")


def test_nothing_can_be_classified_too() -> None:
    assert tensors.classification(np.empty((0, 4), np.float32), 2, None).shape == (0, 2)
    assert tensors.classification(np.empty((3, 0), np.float32), 2, None).shape == (3, 0)
    assert tensors.classification(np.array(2.5, np.float32), 2, None).tolist() == [b"2.500000:0"]


def test_rows_of_nothing_take_no_time_to_rank() -> None:
    rows = np.empty((tensors.MAX_ELEMENTS, 0), np.float32)
    assert tensors.classification(rows, 2, None).shape == (tensors.MAX_ELEMENTS, 0)


def test_classification_ranks_with_labels() -> None:
    top = tensors.classification(np.array([[0.1, 0.7, 0.2]], dtype=np.float32), 2, ["cat", "dog", "eel"])
    assert top.tolist() == [[b"0.700000:1:dog", b"0.200000:2:eel"]]


def test_rows_without_number_are_not_ranked() -> None:
    assert tensors.classification(np.zeros((tensors.MOST_RANKED, 1), np.float32), 1, None).shape == (
        tensors.MOST_RANKED,
        1,
    )
    with pytest.raises(Invalid, match="10001 rows"):
        tensors.classification(np.zeros((tensors.MOST_RANKED + 1, 1), np.float32), 1, None)
